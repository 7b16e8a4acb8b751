"""Weights of another run to begin with: what fits is taken over, the rest stays as it was made. Section 4.4."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videopolicy.config import from_dict
from videopolicy.data.files import reading
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig
from videopolicy.training import checkpoint, restoring, resume
from videopolicy.training.parts import parts

Convert = Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Source:
    """A checkpoint to take weights from."""

    path: Path
    config: dict
    state: dict

    @property
    def digest(self) -> str:
        return checkpoint.weights_digest(self.path)

    def labels(self, ours: dict, head: HeadConfig) -> dict:
        """Statistics of labels for a head: the source's, where it takes over what they scale; else `ours`.

        A bin means the height that it was trained as, and a coordinate so many standard deviations, whatever the
        demonstrations at hand span. Counts of waypoints stay those of the data at hand.
        """
        theirs = self.head
        same = theirs.kind == head.kind and theirs.labels == head.labels == "3d"
        if not same or theirs.para.n_height != head.para.n_height or ours["height"] is None:
            return ours
        with reading(self.path):
            labels = self.state["labels"]
            ranges = {name: labels[name] for name in ("height", "position_mean", "position_std")}
            return ours | ranges | {name: labels[name] for name in resume.NEW if name in labels}

    @property
    def seen(self) -> list[dict]:
        """What it was trained on, as `data/mixture.py` says it; of older checkpoints nothing."""
        return list(self.state.get("seen", []))

    @property
    def head(self) -> HeadConfig:
        with reading(self.path):
            return from_dict(HeadConfig, self.config["head"])


def is_stage_two(path: Path) -> bool:
    """Whether a run or checkpoint is of a video model with a head."""
    return checkpoint.read_state(checkpoint.find(path)).get("stage") == "joint"


def open_source(path: Path, stage: str, backbone: Any, same: tuple[str, ...], head: HeadConfig, fps: int) -> Source:
    """The checkpoint of a run to begin one from whose backbone, head and rate are these.

    `BadInput` where it is of another stage, where a key of its backbone is not the `same`, and where its steps are
    others or last another time: a step's weights would mean another moment.
    """
    found = checkpoint.find(path)
    source = Source(found, checkpoint.read_config(found), checkpoint.read_state(found))
    if source.state.get("stage") != stage:
        raise BadInput(f"init_from {found} is of stage {source.state.get('stage')!r}; allowed: {stage!r}")
    with reading(found):
        theirs = from_dict(type(backbone), source.config["backbone"])
    for name in same:
        if getattr(theirs, name) != getattr(backbone, name):
            raise BadInput(
                f"backbone.{name} is {getattr(backbone, name)!r}, but init_from {found} was trained with"
                f" {getattr(theirs, name)!r}; allowed: the same"
            )
    for name, wanted, found_there in (
        ("head.n_steps", head.n_steps, source.head.n_steps),
        ("the data's fps", fps, source.state.get("fps")),
    ):
        if wanted != found_there:
            raise BadInput(
                f"{name} is {wanted}, but init_from {found} was trained with {found_there}; allowed: the same"
            )
    return source


@torch.no_grad()
def transfer(
    source: Source, module: nn.Module, head: HeadConfig, convert: Convert = lambda theirs, _ours: theirs
) -> str:
    """Take over the whole backbone, and of a head of the same kind what has the same name and shape; a report of both.

    Running means where the checkpoint has them; `convert` gives the checkpoint's weights the names of the module's.
    `BadInput` where a part of the backbone does not fit, or a value is not finite.
    """
    used = ("backbone.", "head.") if source.head.kind == head.kind else ("backbone.",)  # not what the loss keeps
    theirs = {k: v for k, v in restoring.read_weights(source.path).items() if k.startswith(used)}
    every = {k: v for k, v in module.state_dict().items() if k.startswith(("backbone.", "head."))}
    ours = {k: v for k, v in every.items() if not k.startswith(checkpoint.FROZEN)}
    theirs = convert(theirs, ours)
    fits = {k: v for k, v in theirs.items() if k in ours and v.shape == ours[k].shape}
    if others := sorted(k for k in ours if k.startswith("backbone.") and k not in fits):
        raise BadInput(
            f"init_from {source.path} has another backbone: {others[0]} is not the same; allowed: the same one"
        )
    for key, value in fits.items():
        if not value.isfinite().all():
            raise BadInput(f"init_from {source.path} holds values of {key} that are not finite")
    module.load_state_dict(fits, strict=False)
    anew, left = ([k for k in names if k not in fits] for names in (ours, theirs))
    return f"from {source.path}: {parts(fits)}; begun anew: {parts(anew)}; left there: {parts(left)}"
