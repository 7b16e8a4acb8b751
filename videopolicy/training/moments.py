"""What an optimizer keeps of its parameters, looked at before its kernels read it without looking."""

from typing import Any

import torch
from torch import Tensor

from videopolicy.errors import BadInput

ADAM = {"step", "exp_avg", "exp_avg_sq"}
SMALL = {"step", "state1", "state2"}  # bitsandbytes, of parameters with few values: in full
EIGHT_BIT = SMALL | {"qmap1", "qmap2", "absmax1", "absmax2"}
NESTED = "__bnb_optimizer_quant_state__"  # where bitsandbytes' state dictionaries keep all but the step
BLOCK = 256  # values that share a scale in eight bits
LEVELS = 256


def check_moments(state: dict[int, dict[str, Any]], parameters: list[Tensor], step: int) -> None:
    """`BadInput` for moments, by parameter, that are not theirs, not finite, or missing after `step` steps."""
    if step and not state:
        raise BadInput(f"it holds no moments, at step {step}")
    is_adam = any("exp_avg" in kept for kept in state.values())
    for index, place in state.items():
        kept = {key: value for key, value in place.items() if key != NESTED} | place.get(NESTED, {})
        if set(kept) not in ((ADAM,) if is_adam else (SMALL, EIGHT_BIT)):
            raise BadInput(f"of parameter {index} it holds {sorted(kept)}; allowed: all of {sorted(ADAM)}")
        for name, value in kept.items():
            shape = _shape(name, parameters[index])
            found = tuple(value.shape) if isinstance(value, Tensor) else ()
            if found != shape or not bool(torch.as_tensor(value).isfinite().all()):
                raise BadInput(f"{name} of parameter {index} is {found}; allowed: finite, {shape}")
            if name in ("exp_avg", "exp_avg_sq") and not value.is_floating_point():
                raise BadInput(f"{name} of parameter {index} is of {value.dtype}; allowed: floating point")


def _shape(name: str, parameter: Tensor) -> tuple[int, ...]:
    if name == "step":
        return ()
    if name.startswith("qmap"):
        return (LEVELS,)
    if name.startswith("absmax"):
        return (-(-parameter.numel() // BLOCK),)
    return tuple(parameter.shape)
