"""What a checkpoint holds, put back: weights into a network that they fit, moments into an optimizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from videopolicy.data.files import reading
from videopolicy.errors import BadInput
from videopolicy.training.checkpoint import AVERAGED, FROZEN, MODEL, OPTIMIZER, STATE, read_state
from videopolicy.training.moments import check_moments
from videopolicy.training.parts import parts


def load_model(
    path: Path,
    module: nn.Module,
    accept: Callable[[str], bool] = lambda _key: True,
    convert: Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, Tensor]] = lambda theirs, _ours: theirs,
    averaged: bool = False,
) -> str:
    """Load the accepted part of a checkpoint's weights, given the module's own names; they must then fit exactly.

    With `averaged`, running means instead of the last step's weights, where the checkpoint has them. Returns a report
    of what was loaded, and what was not of the module and of the checkpoint, by the first parts of their names.

    Raises `BadInput` that names the first key that is missing, left over or of another shape.
    """
    every = read_weights(path) if averaged else read_tensors(path / MODEL)
    theirs = {k: v for k, v in every.items() if accept(k)}
    ours = {k: v for k, v in module.state_dict().items() if accept(k) and not k.startswith(FROZEN)}
    theirs = convert(theirs, ours)
    put(path, module, ours, theirs)
    rest = [k for k in module.state_dict() if k not in ours and not k.startswith(FROZEN)]
    return (
        f"loaded {parts(theirs)} from {path}; not in it or not asked for: {parts(rest)}; left in it:"
        f" {parts(k for k in every if not accept(k))}"
    )


def put(path: Path, module: nn.Module, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Load weights that `path` holds in the place of `ours`, a module's own or a part of them, which they must fit.

    Raises `BadInput` that names the first key that is missing, left over, of another shape or not finite.
    """
    for key in sorted(set(ours) | set(theirs)):
        a, b = ours.get(key), theirs.get(key)
        if a is None or b is None or a.shape != b.shape or a.is_floating_point() != b.is_floating_point():
            shapes = " against ".join(_shape(x) for x in (b, a))
            raise BadInput(
                f"{path} holds a checkpoint of another architecture: {key} is {shapes} in this configuration"
            )
        if not b.isfinite().all():
            raise BadInput(f"{path} holds values of {key} that are not finite")
    module.load_state_dict(theirs, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """All that a checkpoint acts with: running means where it has them."""
    return read_tensors(path / MODEL) | read_averaged(path)


def read_averaged(path: Path) -> dict[str, Tensor]:
    """Running means of a checkpoint's trained weights; none where it has none."""
    return read_tensors(path / AVERAGED) if (path / AVERAGED).is_file() else {}


def check_frozen(path: Path, state: dict, identity: str) -> None:
    """`BadInput` where the VAE or image encoder at hand is not the one that a checkpoint was trained with."""
    if state.get("frozen") != identity:
        raise BadInput(
            f"{path} was trained with the VAE and image encoder {state.get('frozen')}, the pretrained folder now holds"
            f" {identity}"
        )


def read_optimizer(path: Path, wanted: list[dict]) -> dict[str, Any]:
    """An optimizer's state dictionary, for one with the parameter groups `wanted`, whose rates and decay hold.

    `BadInput` where the checkpoint's are of other parameters, or are no moments of these.
    """
    before = read_state(path)
    state: dict[int, dict[str, Any]] = {}
    # Fused optimizers read moments in the order in which they lie in memory: it must be their parameter's, which may
    # have its channels last, while files have them first.
    parameters: list[Tensor] = [p for group in wanted for p in group["params"]]
    with reading(path / STATE):
        theirs, ours = ([(g["name"], len(g["params"])) for g in x] for x in (before["optimizer"], wanted))
        if theirs != ours:
            raise BadInput(
                f"{path} was trained with other parameters (group, number): {theirs}, not {ours}: by an older version?"
                " It still acts and can be evaluated; to train on, name another run"
            )
        numbers = before.get("numbers", {})
        if not all(type(value) in (int, float) for value in numbers.values()):
            raise BadInput(f"numbers is {numbers}; allowed: numbers by name")
    moments = read_tensors(path / OPTIMIZER)
    with reading(path / OPTIMIZER):
        for key, value in {**moments, **numbers}.items():
            index, *names, last = key.split(".")
            if not int(index) < len(parameters):
                raise BadInput(f"it holds moments of parameter {index}; allowed: 0 to {len(parameters) - 1}")
            place = state.setdefault(int(index), {})
            for name in names:
                place = place.setdefault(name, {})
            if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
                value = torch.empty_like(parameters[int(index)], dtype=value.dtype, device="cpu").copy_(value)
            place[last] = value
        check_moments(state, parameters, before["step"])
    places = iter(range(len(parameters)))
    groups = [{**group, "params": [next(places) for _ in group["params"]]} for group in wanted]
    return {"state": state, "param_groups": groups}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All of a safetensors file; `BadInput` names it where it is none."""
    with reading(path):
        return load_file(path)


def _shape(x: Tensor | None) -> str:
    if x is None:
        return "nothing"
    return str(tuple(x.shape)) + ("" if x.is_floating_point() else f" of {x.dtype}")
