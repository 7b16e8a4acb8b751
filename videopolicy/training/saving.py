"""Writing of checkpoints: aside, synced, read back, and only then put in the place of older ones."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from videopolicy.data.files import described, replace, sync, writing
from videopolicy.errors import BadInput
from videopolicy.provenance import versions
from videopolicy.training.checkpoint import (
    AVERAGED,
    CONFIG,
    FROZEN,
    MANIFEST,
    MODEL,
    N_KEPT,
    OPTIMIZER,
    STATE,
    damage,
    steps,
)


def save(
    run: Path,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    state: dict,
    config: dict,
    averaged: dict[str, Tensor] | None = None,
) -> Path:
    """Write checkpoint `step` of a run, then drop all but the newest two; none goes before the new one is verified.

    `model` and `optimizer` are their state dictionaries. Raises `BadInput` where the disk is full or not what was
    written comes back; older checkpoints are then as they were.
    """
    final, temporary = run / f"step_{step:06d}", run / f"step_{step:06d}.tmp"
    before = [p.name for p in steps(run)]
    kept = (f"{before[-1]} is as it was; " if before else "") + "free some space, and the same command continues"
    moments, numbers, groups = _flatten(optimizer)
    tensors = {MODEL: {k: _copy(v) for k, v in model.items() if not k.startswith(FROZEN)}, OPTIMIZER: moments}
    if averaged is not None:
        tensors[AVERAGED] = {k: v.cpu().contiguous() for k, v in averaged.items()}
    if bad := [k for name in (MODEL, AVERAGED) for k, v in tensors.get(name, {}).items() if not v.isfinite().all()]:
        before_it = f"; {before[-1]} is as it was" if before else ""
        raise FloatingPointError(f"step {step}: {bad[0]} is not finite; nothing was saved{before_it}")
    known = {"step": step, "optimizer": groups, "numbers": numbers, **state}
    needed = sum(value.nbytes for values in tensors.values() for value in values.values())
    with writing(temporary, kept, needed):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _write(temporary, tensors, known, config)
            if problem := damage(temporary):
                raise BadInput(f"{temporary} was written and does not read back: {problem}; {kept}")
            shutil.rmtree(final, ignore_errors=True)  # damaged, or training would have gone on after it
            temporary.rename(final)
            sync(run)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    replace(run / "latest", lambda path: path.write_text(final.name + "\n"))
    _purge(run, step)
    return final


def _purge(run: Path, step: int) -> None:
    """Drop what is older than the newest whole checkpoints before the one of `step`, N_KEPT with it."""
    n_whole = 1
    for old in reversed([p for p in steps(run) if int(p.name[5:]) < step]):
        if n_whole >= N_KEPT:
            try:
                shutil.rmtree(old)
            except OSError as error:  # the new one is saved: that is what counts
                warnings.warn(f"cannot remove {old}: {error.strerror or error}", stacklevel=3)
        else:
            n_whole += damage(old) is None


def _write(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict, config: dict) -> None:
    """All of a checkpoint's files, the manifest last, and on disk."""
    for name, values in tensors.items():
        save_tensors(values, folder / name)
    (folder / STATE).write_text(json.dumps(state, indent=1))
    (folder / CONFIG).write_text(json.dumps(config, indent=1))
    files = {f.name: described(f) for f in sorted(folder.iterdir())}
    identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    about = {"step": state["step"], "config": identity, "versions": versions(), "files": files}
    (folder / MANIFEST).write_text(json.dumps(about, indent=1))
    for file in folder.iterdir():
        sync(file)
        _forget(file)
    sync(folder)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """`OSError` where that fails, as every other way of writing has it."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # says what the system said, as text
        raise OSError(f"{path.name}: {' '.join(str(error).split())}") from error


def _forget(path: Path) -> None:
    """Drop a file that is on disk from the system's memory: what is then read is what was written."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
