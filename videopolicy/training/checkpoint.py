"""Checkpoints: folders that are whole or absent, of safetensors and JSON, under a manifest of their sums.

run/step_000400/{model,optimizer}.safetensors  state.json  config.json  manifest.json
                averaged.safetensors           the trained weights' running means, where training keeps them
run/latest                                     the name of the newest one

`saving.py` writes them, `restoring.py` puts back what they hold.
"""

import re
import shutil
import warnings
from pathlib import Path

from videopolicy.data.files import differing, read_json, reading
from videopolicy.errors import BadInput

N_KEPT = 2
MODEL, OPTIMIZER, AVERAGED = "model.safetensors", "optimizer.safetensors", "averaged.safetensors"
STATE, CONFIG, MANIFEST = "state.json", "config.json", "manifest.json"
REQUIRED = (MODEL, OPTIMIZER, STATE, CONFIG)
FROZEN = ("backbone.vae.", "backbone.image_encoder.")  # never trained: they stay in the pretrained folder


def steps(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first; they may be damaged."""
    found = [p for p in run.glob("step_*") if re.fullmatch(r"step_[0-9]+", p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name[5:]))  # by number: as text, step 1000000 precedes 999900


def unfinished(run: Path) -> list[Path]:
    """Folders that saves which did not end have left in a run."""
    return sorted(p for p in run.glob("step_*.tmp") if p.is_dir())


def sweep(run: Path) -> None:
    """Remove what saves that did not end have left in a run; for the process that holds the run."""
    for path in unfinished(run):
        shutil.rmtree(path)
    for path in run.glob("latest.*.tmp"):
        path.unlink()


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
        files = read_json(path / MANIFEST)["files"]
        for name in REQUIRED:
            if name not in files:
                return f"{MANIFEST} does not list {name}"
        if strangers := sorted({p.name for p in path.iterdir()} - {*files, MANIFEST}):
            return f"{MANIFEST} does not list {strangers[0]}"
        return differing(path, files, "the manifest")
    except (BadInput, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST}: {error}"


def find(path: Path) -> Path:
    """The checkpoint that a user names by its own folder or by its run's; `BadInput` where there is none."""
    if (path / MANIFEST).is_file():
        problem = damage(path)
        if problem:
            raise BadInput(f"checkpoint {path}: {problem}")
        return path
    if path.name.startswith("step_") and path.is_dir():
        raise BadInput(f"checkpoint {path}: {MANIFEST} is missing")
    found = latest(path) if path.is_dir() else None
    if found is None:
        raise BadInput(
            f"no checkpoint in {path}{_there_is(path)}; allowed: a run of train_stages or a checkpoint in it"
        )
    return found


def read_config(path: Path) -> dict:
    return read_json(path / CONFIG)


def read_state(path: Path) -> dict:
    """What training knew beside weights; `step` and `optimizer` are there."""
    state = read_json(path / STATE)
    if type(state.get("step")) is not int or state["step"] < 0 or not isinstance(state.get("optimizer"), list):
        raise BadInput(f"{path / STATE} has step {state.get('step')!r}; allowed: a whole number, and optimizer groups")
    commits = state.get("commits", [])
    if not isinstance(commits, list) or not all(isinstance(commit, str) for commit in commits):
        raise BadInput(f"{path / STATE} has commits {commits!r}; allowed: a list of names")
    return state


def weights_digest(path: Path) -> str:
    """What identifies the weights that a checkpoint acts with."""
    with reading(path / MANIFEST):
        files = read_json(path / MANIFEST)["files"]
        return files[AVERAGED if AVERAGED in files else MODEL]["sha256"]


def _there_is(path: Path) -> str:
    """Checkpoints beside one that a user named and that does not exist."""
    beside = [p.name for p in steps(path.parent)] if path.name.startswith("step_") else []
    return f"; there is: {', '.join(beside)}" if beside else ""
