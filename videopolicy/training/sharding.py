"""ZeRO (Rajbhandari et al. 2020) by DeepSpeed: each process keeps its share of moments and gradients (stage 2), of
weights too (stage 3).

Accelerate's own integration applies gradients inside `backward`, before anybody has seen their norm, and takes two
processes on a CPU for one: here accelerate starts the processes, and this file alone speaks with DeepSpeed.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_optimizer_state,
    safe_get_local_optimizer_state,
    safe_set_full_optimizer_state,
    safe_set_local_optimizer_state,
)
from torch import Tensor
from torch.distributed import get_rank, get_world_size
from torch.nn import functional as F

from videopolicy.training.checkpoint import FROZEN
from videopolicy.training.engine import Engine
from videopolicy.training.objective import Objective

MOMENTS = ("exp_avg", "exp_avg_sq")
BUCKET = 50_000_000  # numbers that are sent together
SMALL = 10_000  # weights of fewer numbers are not shared at stage 3
SHARED_MEMORY = "deepspeed_shm_comm"  # kernels for a CPU, compiled for a minute at first use: gloo does


class Sharded(Engine):
    """An engine whose checkpoints are those of `Replicated`: either goes on where the other stopped.

    Learning rates are read from `optimizer.param_groups`, as ever; its parameters become flat shares of each group's.
    Gradients are sent after every part, not once a step. A parameter without gradient is decayed here, and not there.
    """

    def __init__(
        self,
        stage: int,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        clip: float,
        n_samples: int,
        bf16: bool,
    ) -> None:
        """`n_samples`: of a part; `bf16`: whether networks compute in it."""
        self.stage, self.objective, self.optimizer = stage, objective, optimizer
        self.parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self.sizes = [len(group["params"]) for group in optimizer.param_groups]
        # The small networks beside the video model: a head, the start's embedding, a readout.
        self.beside = [p for group in optimizer.param_groups if group.get("name") != "unet" for p in group["params"]]
        for p in objective.parameters():  # flat shares have channels first
            p.data = p.data.clone(memory_format=torch.contiguous_format)
        self.scalars = {id(p) for p in objective.parameters() if p.dim() == 0}  # DeepSpeed sends none without an axis
        for p in objective.parameters():
            if id(p) in self.scalars:
                p.data = p.data[None]
        if not torch.cuda.is_available():
            deepspeed.ops.__compatible_ops__[SHARED_MEMORY] = False
        config = {
            "train_micro_batch_size_per_gpu": n_samples,
            "gradient_accumulation_steps": 1,  # parts are counted by `part`
            "gradient_clipping": clip if clip < math.inf else 0.0,
            "zero_optimization": {
                "stage": stage,
                "reduce_bucket_size": BUCKET,
                "allgather_bucket_size": BUCKET,
                "stage3_param_persistence_threshold": SMALL,
            },
            # Weights, gradients and moments in single precision, as everywhere; only the passes in bf16.
            "torch_autocast": {"enabled": bf16, "dtype": "bfloat16", "lower_precision_safe_modules": []},
            "steps_per_print": 2**31,
        }
        self.wrapped, *_ = deepspeed.initialize(
            model=objective, optimizer=optimizer, config=config, dist_init_required=False
        )
        if stage == 3:  # whole from the objective's forward to the end of its backward pass
            for p in self.beside:
                deepspeed.zero.register_external_parameter(objective, p)
        self._make_moments()

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        self.wrapped.set_gradient_accumulation_boundary(is_boundary=last)
        yield

    def backward(self, loss: Tensor) -> None:
        self.wrapped.backward(loss)

    def step(self, refuse: Callable[[float], None]) -> float:
        self.wrapped.step()
        # Where it is not finite DeepSpeed has changed no weight, and may still hold the norm of the step before.
        norm = math.inf if self.wrapped.optimizer.overflow else float(self.wrapped.get_global_grad_norm())
        refuse(norm)
        return norm

    @contextmanager
    def in_reach(self) -> Iterator[None]:
        """A layer gathers its weights where it is called, but heads also read those of layers that they do not call.

        What was gathered in between goes: autograd cannot use what was made in inference mode.
        """
        if self.stage < 3:
            yield
            return
        with deepspeed.zero.GatheredParameters(self.beside):
            yield
        self.wrapped.empty_partition_cache()

    def weights(self) -> dict[str, Tensor]:
        found, own = dict(self.objective.state_dict()), dict(self.objective.named_parameters())
        if self.stage == 3:  # one after the other: no device need hold them all
            for name, p in own.items():
                with deepspeed.zero.GatheredParameters([p]):
                    if get_rank() == 0 and not name.startswith(FROZEN):
                        found[name] = p.detach().cpu()
        return {name: self._whole(own.get(name), value) for name, value in found.items()}

    def optimizer_state(self) -> dict[str, Any]:
        steps = self.optimizer.state[self._shares()[0]]["step"].cpu()
        state: dict[int, dict[str, Tensor]] = {}
        for i, p in enumerate(self.parameters):
            state[i] = {"step": steps}
            for name in MOMENTS:
                whole = safe_get_full_optimizer_state(p, name)
                if get_rank() == 0:  # which writes; main memory need not hold it eight times
                    state[i][name] = self._whole(p, whole.cpu())
        groups, first = [], 0
        for group, n in zip(self.optimizer.param_groups, self.sizes, strict=True):
            groups.append({**group, "params": list(range(first, first + n))})
            first += n
        return {"state": state, "param_groups": groups}

    def load_optimizer(self, state: dict[str, Any]) -> None:
        taken = next((kept["step"] for kept in state["state"].values()), torch.zeros(()))
        for share in self._shares():
            self.optimizer.state[share]["step"].copy_(taken)
        for i, p in enumerate(self.parameters):
            if i not in state["state"]:  # it had no gradient yet
                continue
            for name in MOMENTS:
                value = state["state"][i][name].to(p.device)
                self._set_moment(p, name, value[None] if id(p) in self.scalars else value)

    def _whole(self, p: Tensor | None, value: Tensor) -> Tensor:
        """A parameter's value in the shape that it had; of this process's where others hold it, nothing."""
        return value[0] if id(p) in self.scalars and value.numel() else value

    def _shares(self) -> list[Tensor]:
        """This process's part of each group, or, at stage 3, of what DeepSpeed steps together."""
        zero = self.wrapped.optimizer
        return zero.single_partition_of_fp32_groups if self.stage < 3 else zero.fp32_partitioned_groups_flat

    def _set_moment(self, p: Tensor, name: str, value: Tensor) -> None:
        if self.stage < 3:
            safe_set_full_optimizer_state(p, value, name)
            return
        # Shares are of one size, the last ones padded; DeepSpeed's own function for this does not pad.
        n = safe_get_local_optimizer_state(p, name).numel()
        padded = F.pad(value.flatten(), (0, n * get_world_size() - value.numel()))
        safe_set_local_optimizer_state(p, padded[n * get_rank() :][:n], name)

    def _make_moments(self) -> None:
        """As the optimizer's first step would.

        DeepSpeed looks for them once, after the first group's step, and does not find the other groups'.
        """
        for share in self._shares():
            zeros = {name: torch.zeros_like(share) for name in MOMENTS}
            self.optimizer.state[share] = {"step": torch.zeros((), device=share.device), **zeros}
        if self.stage < 3:
            self.wrapped.optimizer._lazy_init_hp_params_optimizer_state()
