"""How fast a video model acts and trains on a device: the published SVD's sizes, weights random. See `svd.py`.

Wall-clock times, medians after a warm-up, the device waited for; timed is what a policy and a training step run.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import svd_loader
from videopolicy.backbones.lowered import keep_low
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig, Weights
from videopolicy.backbones.unet import compile_blocks
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.diffusion import NoiseConfig, like
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead
from videopolicy.operations import Operations
from videopolicy.policy import FeaturePolicy
from videopolicy.provenance import commit
from videopolicy.training.objectives import Draws, VideoObjective, draw
from videopolicy.training.optimizer import make_optimizer
from videopolicy.training.precision import has_bf16
from videopolicy.training.setup import TrainConfig
from videopolicy.training.throughput import known_peak
from videopolicy.types import Observation

FPS = 7
N_STAGE_ONE, N_STAGE_TWO = 4000, 3000  # steps, as the sources have them


# What the published sizes should reach on an H200; of what is not in FLOORS, at most.
GOALS = {
    "train_ms_per_sample": 110.0,
    "train_peak_gib": 115.0,
    "checkpointed_peak_gib": 85.0,
    "cached_speedup": 1.3,
    "wait_share": 0.02,
    "schedule_hours": 2.5,
    "policy_step_ms": 60.0,
    "policy_step_compiled_ms": 35.0,
    "read_share": 0.75,
    "head_share": 0.03,
}
FLOORS = ("cached_speedup",)


def measure(
    device: torch.device,
    pretrained: Path | None,
    size: tuple[int, int],
    batch: int,
    repeats: int,
    compiled: bool,
    keep: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Times [ms], shares and memory [GiB]; a folder of small networks stands in for the published sizes in tests.

    `keep` is given all that is known after every part, so that one that ends early takes nothing along. What does not
    fit into memory is named under `out_of_memory`, and what else there is to measure is measured.
    """
    began = time.perf_counter()
    weights: Weights = "random" if pretrained is None else "pretrained"
    blocks, grid = ((1, 2), 64) if pretrained is None else ((0, 1), 8)
    n_frames = 7 if pretrained is None else 4
    cfg = SVDConfig(pretrained, weights, size, n_frames, feature_blocks=blocks, grid=grid)
    fps = FPS if pretrained is None else 4
    backbone = SVDBackbone(cfg, fps).to(device)
    low = has_bf16(device.type)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "commit": commit(),
        "size": list(size),
        "precision": "bf16" if low else "fp32",
    }
    parts = {
        "training": lambda: training(backbone, device, batch, repeats, low),
        "checkpointed": lambda: checkpointed(backbone, device, 2 * batch, repeats, low),
        "acting": lambda: acting(backbone, device, repeats, low),  # from here on with weights as a policy keeps them
        "acting compiled": lambda: acting_compiled(backbone, device, repeats, low),  # what is compiled stays so
    }
    for name, part in parts.items():
        if name == "acting compiled" and not compiled:
            continue
        try:
            found |= part()
        except torch.OutOfMemoryError:
            found["out_of_memory"] = [*found.get("out_of_memory", []), name]
            backbone.zero_grad()
        forget_peak(device)
        peak = known_peak(device)
        for what, flops, ms in (
            ("train_mfu", "train_tflop_per_sample", "train_ms_per_sample"),
            ("policy_mfu", "policy_step_tflop", "policy_step_ms"),
        ):
            if peak is not None and ms in found:
                found[what] = found[flops] / found[ms] / peak * 1e3
        found["seconds"] = time.perf_counter() - began
        keep(found)
    return found


def table(found: dict[str, Any], goals: bool) -> str:
    """A line for each figure; with `goals`, those that the published sizes should reach on an H200 beside it."""
    lines = []
    for name, value in found.items():
        line = f"{name:<26} {value:.4g}" if isinstance(value, float) else f"{name:<26} {value}"
        if goals and name in GOALS:
            least = name in FLOORS
            met = value >= GOALS[name] if least else value <= GOALS[name]
            line = f"{line:<38} goal: at {'least' if least else 'most'} {GOALS[name]:g}: {'met' if met else 'missed'}"
        lines.append(line)
    return "\n".join(lines)


def timed(compute: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time [ms], after three runs that are not counted."""
    times = []
    for i in range(repeats + 3):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= 3:
            times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times))


def policy_of(backbone: SVDBackbone, device: torch.device, low: bool) -> tuple[FeaturePolicy, Observation]:
    """A policy with a head that has learned nothing, and what it sees from above."""
    cfg, n_steps = backbone.cfg, backbone.n_feature_frames
    shape = (backbone.feature_channels, n_steps, n_steps, backbone.grid, cfg.image_size)
    head = ParaHead(ParaConfig(), *shape, Bins(-0.02, 0.33, 32), 1 / FPS).to(device).eval()
    policy = FeaturePolicy(backbone.eval(), head, cfg.image_size, "bf16" if low else "fp32")
    width, height = cfg.image_size
    down = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.2], [0, 0, 0, 1]])
    camera = Camera(np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]), down, cfg.image_size)
    seen = Observation(np.zeros((height, width, 3), np.uint8), camera, np.array([0.0, 0.0, 0.1]), 1.0, 0.0)
    return policy, seen


def acting(backbone: SVDBackbone, device: torch.device, repeats: int, low: bool) -> dict[str, float]:
    """A policy's step from a picture to waypoints, with VAE, image encoder, head and lifting; and its parts."""
    if low:
        keep_low(backbone.unet)
        keep_low(backbone.image_encoder)
    policy, seen = policy_of(backbone, device, low)
    cfg, head = backbone.cfg, policy.head
    width, height = cfg.image_size
    found = {"policy_step_ms": timed(lambda: policy.act(seen), device, repeats)}
    with Operations() as counter:
        policy.act(seen)
    found["policy_step_tflop"] = counter.total / 1e12
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
        first = torch.zeros(1, 3, height, width, device=device)
        nothing = torch.zeros(1, device=device)
        condition = backbone.condition(first, nothing, torch.zeros_like(first))
        sigma = torch.full((1,), cfg.feature_sigma, device=device)
        noise = backbone.feature_noise[None]
        x = like(sigma, noise) * noise
        found["whole_pass_ms"] = timed(lambda: backbone.denoise(x, sigma, condition), device, repeats)
        with plain_attention(backbone.unet):
            found["plain_pass_ms"] = timed(lambda: backbone.denoise(x, sigma, condition), device, repeats)
        found["read_ms"] = timed(lambda: backbone.read(x, sigma, condition), device, repeats)
        start = torch.full((1, 2), 20.0, device=device)
        features = backbone.features(backbone.read(x, sigma, condition), start)
    with torch.inference_mode():
        found["head_ms"] = timed(lambda: head.decode(head.forward(features), [seen.camera]), device, repeats)
    found["head_share"] = found["head_ms"] / found["policy_step_ms"]
    found["read_share"] = found["read_ms"] / found["plain_pass_ms"]
    return found


def acting_compiled(backbone: SVDBackbone, device: torch.device, repeats: int, low: bool) -> dict[str, Any]:
    """A policy's step again, the UNet's blocks compiled; or why they cannot be here."""
    compile_blocks(backbone.unet, "inductor")
    policy, seen = policy_of(backbone, device, low)
    began = time.perf_counter()
    try:
        policy.act(seen)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # as torch has it: without a compiler, for one
        return {"compile_failed": str(error).strip().split("\n")[0][:200]}
    seconds = time.perf_counter() - began
    return {"compile_seconds": seconds, "policy_step_compiled_ms": timed(lambda: policy.act(seen), device, repeats)}


@contextmanager
def plain_attention(network: Any) -> Iterator[None]:
    """Cross-attention as diffusers has it, with queries and keys, while this lasts."""
    crossed = [module for name, module in network.named_modules() if name.endswith(".attn2")]
    theirs = next(module.processor for name, module in network.named_modules() if name.endswith(".attn1"))
    ours = [module.processor for module in crossed]
    for module in crossed:
        module.set_processor(theirs)
    yield
    for module, processor in zip(crossed, ours, strict=True):
        module.set_processor(processor)


def stage_one(backbone: SVDBackbone, device: torch.device, low: bool) -> Callable[[dict[str, Tensor], Draws], Tensor]:
    """A step of stage one, optimizer and all; gives its loss."""
    objective = VideoObjective(backbone)
    backbone.start_embedding.requires_grad_(False)
    cfg, trained = TrainConfig(mixed_precision="fp32"), backbone.unet_parameters()
    optimizer = make_optimizer({"unet": (trained, 1e-6)}, cfg)

    def step(given: dict[str, Tensor], draws: Draws) -> Tensor:
        objective.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = objective(given, draws)["total"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, cfg.clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def clips_of(backbone: SVDBackbone, batch: int, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Black clips, and the same as they come from the cache."""
    width, height = backbone.cfg.image_size
    frames = torch.zeros(batch, backbone.cfg.n_frames, height, width, 3, dtype=torch.uint8, device=device)
    plain = {"frames": frames, "start_pixel": torch.zeros(batch, 2, device=device)}
    latents = torch.randn(batch, *backbone.feature_noise.shape, device=device)
    embedding = torch.randn(batch, backbone.cfg.n_frames, backbone.image_encoder.config.projection_dim, device=device)
    return plain, {**plain, "posterior": torch.cat([latents, torch.zeros_like(latents)], 2), "embeddings": embedding}


def training(backbone: SVDBackbone, device: torch.device, batch: int, repeats: int, low: bool) -> dict[str, float]:
    """Steps of stage one, what of their time is waiting for clips, and how long 4K + 3K of eight clips would take."""
    step = stage_one(backbone, device, low)
    found = cached_and_not(backbone, device, batch, repeats, step)
    found["wait_share"] = svd_loader.wait_share(backbone, device, batch, repeats, step)
    found["schedule_hours"] = (N_STAGE_ONE + N_STAGE_TWO) * 8 * found["train_ms_per_sample"] / 3.6e6
    return found


def cached_and_not(
    backbone: SVDBackbone, device: torch.device, batch: int, repeats: int, step: Callable[..., Tensor]
) -> dict[str, float]:
    """Of clips from the cache, and of clips that are encoded in every step; no checkpointing."""
    plain, cached = clips_of(backbone, batch, device)
    draws = draw(NoiseConfig(), range(batch), backbone, 0, 0).to(device)
    forget_peak(device)
    found = {"train_batch": float(batch)}
    found["train_ms_per_sample"] = timed(lambda: step(cached, draws), device, repeats) / batch
    found |= peak_memory("train_peak_gib", device)
    found["uncached_ms_per_sample"] = timed(lambda: step(plain, draws), device, repeats) / batch
    found["cached_speedup"] = found["uncached_ms_per_sample"] / found["train_ms_per_sample"]
    with Operations() as counter:
        step(cached, draws)
    found["train_tflop_per_sample"] = counter.needed / batch / 1e12
    return found


def checkpointed(backbone: SVDBackbone, device: torch.device, batch: int, repeats: int, low: bool) -> dict[str, float]:
    """Of clips from the cache, all blocks computed again."""
    step = stage_one(backbone, device, low)
    backbone.cfg, own = replace(backbone.cfg, checkpointing="full"), backbone.cfg
    try:
        _, cached = clips_of(backbone, batch, device)
        draws = draw(NoiseConfig(), range(batch), backbone, 0, 0).to(device)
        found = {"checkpointed_ms_per_sample": timed(lambda: step(cached, draws), device, repeats) / batch}
        return found | peak_memory("checkpointed_peak_gib", device)
    finally:
        backbone.cfg = own


def forget_peak(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(name: str, device: torch.device) -> dict[str, float]:
    """The most that tensors held on a GPU since `forget_peak`; nothing of a CPU."""
    return {name: torch.cuda.max_memory_allocated(device) / 2**30} if device.type == "cuda" else {}
