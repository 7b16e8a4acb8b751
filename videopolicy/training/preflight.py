"""What training a video model will need, found without computing it: memory of the device, and disk for checkpoints.

Activations are those that autograd keeps of a pass over tensors without storage, one sample's, times a part's samples.
"""

import copy
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from videopolicy.backbones import tuning, unet
from videopolicy.backbones.backbone import Pyramid
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.errors import BadInput
from videopolicy.heads.head import ActionHead
from videopolicy.training.disk import GIB, check_disk
from videopolicy.training.setup import OptimizerName, TrainConfig
from videopolicy.training.zero import zero_stage

LIVE = 10**9  # weights that DeepSpeed keeps gathered at ZeRO's stage 3


@dataclass(frozen=True)
class Need:
    """Bytes on the device, in each process."""

    weights: int
    gradients: int
    moments: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.average + self.activations

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value / GIB:.2f}" for name, value in vars(self).items() if value)
        return f"{self.total / GIB:.2f} GiB ({parts})"


class Preflight:
    """Estimates for one backbone, and what is trained behind it, under any configuration of the same networks."""

    def __init__(self, backbone: SVDBackbone, head: nn.Module | None, n_processes: int) -> None:
        self.backbone, self.head, self.n_processes = backbone, head, n_processes

    def need(self, train: TrainConfig, svd: SVDConfig) -> Need:
        """What training in this way needs."""
        trained, blocks, inputs = self.kept(svd.tune, svd.lora_rank)
        half = 0.5 if train.mixed_precision == "bf16" else 1.0
        again = unet.checkpointed(len(self.backbone.unet.down_blocks), svd.checkpointing)
        kept = sum(n for name, n in blocks.items() if name not in again)
        kept += sum(inputs[name] for name in again) + max((blocks[name] for name in again), default=0)
        own = sum(p.numel() for p in self.head.parameters()) if self.head is not None else 0
        n_all = sum(p.numel() for p in self.backbone.parameters()) + own
        n_trained = trained + own
        samples = train.batch_size // (self.n_processes * train.accumulate)
        # Autocast keeps a copy of what it casts through a step.
        weights = 4 * n_all + (2 * sum(p.numel() for p in self.backbone.unet.parameters()) if half < 1 else 0)
        stage, holders = zero_stage(), self.holders
        if stage == 3:  # whole until they are shared, then what is gathered for a pass
            weights = max(4 * n_all, 4 * n_all // holders + 4 * min(n_all, LIVE) + 4 * own)
        if stage:  # a share of what is trained once more, which the optimizer steps
            weights += 4 * n_trained // holders
        return Need(
            weights=weights,
            gradients=4 * n_trained // holders,
            moments=(2 if train.optimizer == "adamw8bit" else 8) * n_trained // holders,
            average=4 * n_trained if train.ema and not train.ema_on_cpu else 0,
            activations=int(samples * (half * kept + self._head())),
        )

    @property
    def holders(self) -> int:
        """Processes that share gradients and moments."""
        return self.n_processes if zero_stage() else 1

    def kept(self, tune: tuning.Tune, rank: int) -> tuple[int, dict[str, int], dict[str, int]]:
        """Weights trained; bytes that each block of the UNet keeps of a sample, and those of what it is given."""
        network, shape = self.backbone.unet, tuple(self.backbone.feature_noise.shape)
        kind: Any = type(network)
        return _kept(kind, json.dumps(dict(network.config), default=str), shape, tune, rank)

    def checkpoint(self, need: Need, train: TrainConfig) -> int:
        """Bytes of one on disk: weights, moments and running means."""
        own = sum(p.numel() for p in self.head.parameters()) if self.head is not None else 0
        weights = 4 * (own + sum(p.numel() for p in self.backbone.unet.parameters()))
        return weights + self.holders * (need.moments + (need.gradients if train.ema else 0))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample, as the networks see it."""
        cfg = self.backbone.cfg
        found: dict[str, tuple[int, ...]] = {
            "frames": (cfg.n_frames, *cfg.image_size[::-1], 3),
            "latents": tuple(self.backbone.feature_noise.shape),
        }
        if isinstance(self.head, ActionHead):
            found["features"] = (cfg.n_frames - 1, self.backbone.feature_channels, *self.backbone.grid)
        return found

    def _head(self) -> int:
        """Bytes that a head keeps of a sample, and the features it is given."""
        if not isinstance(self.head, ActionHead):
            return 0
        head = copy.deepcopy(self.head).to("meta")
        widths, (*_, rows, cols) = self.backbone.unet.config.block_out_channels[::-1], self.backbone.feature_noise.shape
        factors = {i: 2 ** max(len(widths) - 2 - i, 0) for i in self.backbone.cfg.feature_blocks}
        shapes = [(1, self.backbone.n_feature_frames, widths[i], rows // n, cols // n) for i, n in factors.items()]
        counter = _Saved(head)
        with torch.device("meta"), counter:
            levels = tuple(torch.zeros(shape, requires_grad=True) for shape in shapes)
            head(Pyramid(levels, torch.zeros(1, 1, *self.backbone.grid), torch.zeros(self.backbone.feature_channels)))
        return counter.bytes


@cache  # a pass of a large network takes seconds, and is the same for most of what may be changed
def _kept(
    kind: Any, config: str, shape: tuple[int, ...], tune: tuning.Tune, rank: int
) -> tuple[int, dict[str, int], dict[str, int]]:
    """`Preflight.kept` of a network of that class and configuration, on latents of that shape."""
    given, with_meta = json.loads(config), torch.device("meta")
    with with_meta:
        network = kind.from_config(given).to(with_meta)  # some parameters are made elsewhere
        unet.shorten_cross_attention(network)
        tuning.choose(network, tune, rank)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if not trained:
        return 0, {name: 0 for name in ["rest", *_names(network)]}, dict.fromkeys(_names(network), 0)
    blocks, inputs = {"rest": 0}, {}
    counter = _Saved(network)
    for name, block in _names(network).items():

        def before(_block: Any, _args: Any, states: dict, name: str = name) -> None:
            inputs[name] = states["hidden_states"].nbytes
            blocks[name] = -counter.bytes

        def after(_block: Any, _args: Any, _output: Any, name: str = name) -> None:
            blocks[name] += counter.bytes

        block.register_forward_pre_hook(before, with_kwargs=True)
        block.register_forward_hook(after)
    n_frames, *latent = shape
    width, n_ids = given["cross_attention_dim"], 3
    with with_meta, counter, _FlashAttention():
        x = torch.zeros(1, n_frames, 2 * latent[0], *latent[1:])
        unet.run(network, x, torch.zeros(1), torch.zeros(1, 1, width), torch.zeros(1, n_ids))
    blocks["rest"] = counter.bytes - sum(blocks.values())
    return trained, blocks, inputs


class _Saved(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes of what autograd keeps, each storage once, weights left out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(self._pack, lambda x: x)
        self.seen = {p.untyped_storage()._cdata for p in network.parameters()}
        self.alive: list[Tensor] = []  # an address that is let go may be another's
        self.bytes = 0

    def _pack(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.alive.append(x)
            self.bytes += storage.nbytes()
        return x


class _Flash(torch.autograd.Function):
    """Attention that keeps what fused kernels do: what it is given and what it gives, no weights of pairs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out


class _FlashAttention(TorchFunctionMode):
    """Tensors without storage would go through attention's plain form, which no device uses."""

    def __torch_function__(self, func: Any, _types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _Flash.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def _names(network: Any) -> dict[str, nn.Module]:
    """Blocks by the names that checkpointing gives them."""
    found = {f"down{i}": block for i, block in enumerate(network.down_blocks)} | {"mid": network.mid_block}
    return found | {f"up{i}": block for i, block in enumerate(network.up_blocks)}


def check(plan: Preflight, train: TrainConfig, accelerator: Accelerator, run: Path) -> None:
    """Say what training will need, and refuse what cannot fit, naming the settings that would make it fit."""
    say, svd = accelerator.print, plan.backbone.cfg
    say("sample: " + ", ".join(f"{name} {' x '.join(map(str, s))}" for name, s in plan.shapes().items()))
    need, memory = plan.need(train, svd), _capacity(accelerator.device, plan.n_processes)
    say(f"memory: about {need} of {memory / GIB:.1f} GiB for a process")
    check_disk(run, plan.checkpoint(need, train), train.n_steps, say)
    if need.total > memory:
        raise BadInput(
            f"training needs about {need} in each process, which has {memory / GIB:.1f} GiB;"
            f" {_remedies(plan, train, svd, memory)}"
        )


def _remedies(plan: Preflight, train: TrainConfig, svd: SVDConfig, memory: int) -> str:
    """Settings that would make it fit: one of them, or else all that save most together."""
    share = train.batch_size // plan.n_processes  # a process's samples
    every = [
        ("backbone.checkpointing selective", train, replace(svd, checkpointing="selective")),
        ("backbone.checkpointing full", train, replace(svd, checkpointing="full")),
        *(
            (f"train.accumulate {n}", replace(train, accumulate=n), svd)
            for n in range(2, share + 1)
            if share % n == 0 and n > train.accumulate
        ),
        *([] if zero_stage() else [("train.optimizer adamw8bit", replace(train, optimizer="adamw8bit"), svd)]),
        ("train.ema_on_cpu true", replace(train, ema_on_cpu=True), svd),
        ("backbone.tune temporal", train, replace(svd, tune="temporal")),
        ("backbone.tune lora", train, replace(svd, tune="lora")),
    ]
    found = [
        f"{name} ({plan.need(t, s).total / GIB:.1f} GiB)" for name, t, s in every if plan.need(t, s).total <= memory
    ]
    if found:
        return f"it would fit with any of: {', '.join(found)}"
    optimizer: OptimizerName = "adamw" if zero_stage() else "adamw8bit"
    least = replace(train, accumulate=share, optimizer=optimizer, ema_on_cpu=True)
    for tune in (svd.tune, "lora"):
        total = plan.need(least, smallest := replace(svd, checkpointing="full", tune=tune)).total
        if total <= memory:
            return (
                f"it would fit with backbone.checkpointing full, backbone.tune {smallest.tune}, train.accumulate"
                f" {share}, train.optimizer {optimizer} and train.ema_on_cpu true together ({total / GIB:.1f} GiB)"
            )
    return f"with every setting that saves memory it would still need {total / GIB:.1f} GiB"


def _capacity(device: torch.device, n_processes: int) -> int:
    """Bytes that a process may use: its GPU's, or its share of main memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return psutil.virtual_memory().total // n_processes
