"""Checkpoints that are whole or absent: safetensors and JSON in a folder that appears under its name when complete.

run/step_000400/{model,optimizer}.safetensors  state.json  config.json  manifest.json
                averaged.safetensors           the trained weights' running means, where training keeps them
run/latest                                     the name of the newest one
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videopolicy.errors import BadInput

N_KEPT = 2
AVERAGED = "averaged.safetensors"
FROZEN = ("backbone.vae.", "backbone.image_encoder.")  # never trained: they stay in the pretrained folder


def save(
    run: Path,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    state: dict,
    config: dict,
    averaged: dict[str, Tensor] | None = None,
) -> Path:
    """Write checkpoint `step` of a run, then drop all but the newest two; none goes before the new one is whole.

    `model` and `optimizer` are their state dictionaries.
    """
    final, temporary = run / f"step_{step:06d}", run / f"step_{step:06d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors, numbers, groups = _flatten(optimizer)
    trained = {k: _copy(v) for k, v in model.items() if not k.startswith(FROZEN)}
    save_file(trained, temporary / "model.safetensors")
    save_file(tensors, temporary / "optimizer.safetensors")
    if averaged is not None:
        save_file({k: v.cpu().contiguous() for k, v in averaged.items()}, temporary / AVERAGED)
    known = {"step": step, "optimizer": groups, "numbers": numbers, **state}
    (temporary / "state.json").write_text(json.dumps(known, indent=1))
    (temporary / "config.json").write_text(json.dumps(config, indent=1))
    manifest = {f.name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in sorted(temporary.iterdir())}
    (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for file in temporary.iterdir():
        _sync(file)
    _sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _point_latest(run, final.name)
    for old in steps(run)[:-N_KEPT]:
        shutil.rmtree(old)
    return final


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run; None where there is none at all.

    Damaged ones are skipped with a warning that says why; if every one is damaged, `BadInput` lists them.
    """
    reasons = []
    for path in reversed(steps(run)):
        problem = damage(path)
        if problem is None:
            return path
        reasons.append(f"{path.name}: {problem}")
        warnings.warn(f"skipping checkpoint {path}: {problem}", stacklevel=2)
    if reasons:
        raise BadInput(f"every checkpoint of {run} is damaged: {'; '.join(reasons)}")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder; None where every file is as its manifest says."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name, entry in manifest.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _sha256(path / name) != entry["sha256"]:
                return f"{name} differs from the manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"manifest.json: {error}"
    return None


def find(path: Path) -> Path:
    """The checkpoint that a user names by its own folder or by its run's; `BadInput` where there is none."""
    if (path / "manifest.json").is_file():
        problem = damage(path)
        if problem:
            raise BadInput(f"checkpoint {path}: {problem}")
        return path
    found = latest(path) if path.is_dir() else None
    if found is None:
        raise BadInput(f"no checkpoint in {path}")
    return found


def read_config(path: Path) -> dict:
    return json.loads((path / "config.json").read_text())


def read_state(path: Path) -> dict:
    return json.loads((path / "state.json").read_text())


def weights_digest(path: Path) -> str:
    """What identifies the weights that a checkpoint acts with."""
    manifest = json.loads((path / "manifest.json").read_text())
    return manifest[AVERAGED if AVERAGED in manifest else "model.safetensors"]["sha256"]


def load_model(
    path: Path,
    module: nn.Module,
    accept: Callable[[str], bool] = lambda _key: True,
    convert: Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, Tensor]] = lambda theirs, _ours: theirs,
    averaged: bool = False,
) -> None:
    """Load the accepted part of a checkpoint's weights, given the module's own names; they must then fit exactly.

    With `averaged`, running means instead of the last step's weights, where the checkpoint has them.

    Raises `BadInput` that names the first key that is missing, left over or of another shape.
    """
    theirs = load_file(path / "model.safetensors") | (read_averaged(path) if averaged else {})
    theirs = {k: v for k, v in theirs.items() if accept(k)}
    ours = {k: v for k, v in module.state_dict().items() if accept(k) and not k.startswith(FROZEN)}
    theirs = convert(theirs, ours)
    for key in sorted(set(ours) | set(theirs)):
        a, b = ours.get(key), theirs.get(key)
        if a is None or b is None or a.shape != b.shape:
            shapes = " against ".join("nothing" if x is None else str(tuple(x.shape)) for x in (b, a))
            raise BadInput(
                f"{path} holds a checkpoint of another architecture: {key} is {shapes} in this configuration"
            )
    module.load_state_dict(theirs, strict=False)


def read_averaged(path: Path) -> dict[str, Tensor]:
    """Running means of a checkpoint's trained weights; none where it has none."""
    return load_file(path / AVERAGED) if (path / AVERAGED).is_file() else {}


def check_frozen(path: Path, state: dict, identity: str) -> None:
    """`BadInput` where the VAE or image encoder at hand is not the one that a checkpoint was trained with."""
    if state["frozen"] != identity:
        raise BadInput(
            f"{path} was trained with the VAE and image encoder {state['frozen']}, the pretrained folder now holds"
            f" {identity}"
        )


def read_optimizer(path: Path, wanted: list[dict]) -> dict[str, Any]:
    """An optimizer's state dictionary, for one with the parameter groups `wanted`; `BadInput` where they differ."""
    before = read_state(path)
    groups = before["optimizer"]
    state: dict[int, dict[str, Any]] = {}
    # Fused optimizers read moments in the order in which they lie in memory: it must be their parameter's, which may
    # have its channels last, while files have them first.
    parameters: list[Tensor] = [p for group in wanted for p in group["params"]]
    for key, value in {**load_file(path / "optimizer.safetensors"), **before.get("numbers", {})}.items():
        index, *names, last = key.split(".")
        place = state.setdefault(int(index), {})
        for name in names:
            place = place.setdefault(name, {})
        if isinstance(value, Tensor) and int(index) < len(parameters) and value.shape == parameters[int(index)].shape:
            value = torch.empty_like(parameters[int(index)], dtype=value.dtype, device="cpu").copy_(value)
        place[last] = value
    theirs, ours = ([(g["name"], len(g["params"])) for g in x] for x in (groups, wanted))
    if theirs != ours:
        raise BadInput(
            f"{path} was trained with other parameters (group, number): {theirs}, not {ours}: by an older version? It"
            " still acts and can be evaluated; to train on, name another run"
        )
    return {"state": state, "param_groups": groups}


def _flatten(values: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any], list[dict]]:
    """What an optimizer keeps of each parameter, by its path: tensors, and plain numbers; and its groups."""
    kept = dict(_leaves(values["state"], ""))
    tensors = {k: _copy(v) for k, v in kept.items() if isinstance(v, Tensor)}
    return tensors, {k: v for k, v in kept.items() if not isinstance(v, Tensor)}, values["param_groups"]


def _copy(value: Tensor) -> Tensor:
    """One copy in main memory, of what may be a view or shared."""
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _leaves(tree: dict, path: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def steps(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first; they may be damaged."""
    found = [p for p in run.glob("step_*") if p.is_dir() and p.name[5:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[5:]))  # by number: as text, step 1000000 precedes 999900


def _point_latest(run: Path, name: str) -> None:
    temporary = run / "latest.tmp"
    temporary.write_text(name + "\n")
    _sync(temporary)
    temporary.replace(run / "latest")
    _sync(run)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
