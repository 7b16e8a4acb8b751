"""Rows of the ablations' table: what each changes of a scale's recipes, and the commands that this makes.

A row (`configs/ablations/NAME.yaml`) counts its steps in the published schedule, a scale (`configs/ablations/scales`)
says what share of them is trained, by which recipes, on which data. Options are laid over each other in this order: the
recipe, the scale's `both`, its own of that stage, the row's `both`, the row's own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from eval.positions import HALVES
from eval.training import ROOT, Training, read_leaves, words
from videopolicy.config import load
from videopolicy.errors import BadInput, at_least_one, choices
from videopolicy.training.resume import leaves

FOLDER = ROOT / "configs/ablations"
REFERENCE = "two_stage"  # the row that others are held against
Group = Literal["core", "schedule", "heads", "demonstrations", "rates", "sigma", "blocks", "frames", "freezing"]
Changes = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What one row changes."""

    title: str = ""
    group: Group = "core"
    scales: tuple[str, ...] = ("cpu", "gpu", "full")  # at which it can be run
    video_steps: int = 4000  # of stage one; 0: stage two begins with the published video model
    joint_steps: int = 3000  # of stage two
    # Whether so many steps are trained, or, of a frozen video model, as many more as take the operations of so many
    # steps of one that is not.
    count: Literal["steps", "operations"] = "steps"
    both: Changes = field(default_factory=dict)  # of both stages' recipes
    joint: Changes = field(default_factory=dict)  # of stage two's
    times: dict[str, float] = field(default_factory=dict)  # numbers of stage two's recipe that are multiplied
    rollout: Changes = field(default_factory=dict)
    published: float | None = None  # per cent placed, where the method's manuscripts report it


@dataclass(frozen=True)
class Scale:
    """How large everything is: steps and networks, neither code nor protocol."""

    like: str = ""  # the scale whose rows it has; empty: its own name's
    share: float = 1.0  # of the published schedule's steps
    recipes: dict[str, Path] = field(default_factory=dict)  # of video, joint and rollout
    both: Changes = field(default_factory=dict)
    video: Changes = field(default_factory=dict)
    joint: Changes = field(default_factory=dict)
    rollout: Changes = field(default_factory=dict)
    collections: dict[str, Path] = field(default_factory=dict)  # dataset to the recipe that collects it
    frozen: float = 1.0  # operations of a step with a frozen video model, of those of a step without
    n_validations: int = 1  # of a training
    seconds: dict[str, float] = field(default_factory=dict)  # estimates: steps of video, joint and frozen; an episode

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BadInput(f"share is {self.share}; allowed: above 0 to 1")
        if not 0 < self.frozen <= 1:
            raise BadInput(f"frozen is {self.frozen}; allowed: above 0 to 1")
        at_least_one(self, "n_validations")
        needed = {"recipes": ("video", "joint", "rollout"), "seconds": ("video", "joint", "frozen", "episode")}
        for name, keys in needed.items():
            if missing := [key for key in keys if key not in getattr(self, name)]:
                raise BadInput(f"{name} lacks {', '.join(missing)}; allowed: all of {', '.join(keys)}")

    def steps(self, published: float) -> int:
        return max(1, round(self.share * published))


@dataclass(frozen=True)
class Plan:
    """A row at a scale."""

    name: str
    row: Row
    scale: Scale
    folder: Path
    video: Training | None  # shared by all rows whose stage one is the same
    joint: Training
    rollout: Changes

    @property
    def data(self) -> Path:
        return Path((read_leaves(self.joint.recipe) | self.joint.changes)["data.root"])

    @property
    def rollout_words(self) -> list[str]:
        policies = {"output": self.folder / "rollout", "policies": {self.name: str(self.joint.run)}}
        recipe = self.scale.recipes["rollout"]
        return ["-m", "eval.rollout", "--config_path", str(recipe), *words(self.rollout | policies)]

    @property
    def protocol(self) -> Changes:
        """How it is rolled out, but for what changes no outcome."""
        every = read_leaves(self.scale.recipes["rollout"]) | self.rollout
        ours = ("output", "n_workers", "n_threads", "compile")
        return {k: v for k, v in every.items() if k not in ours and not k.startswith("policies.")}

    @property
    def n_episodes(self) -> int:
        return int(self.protocol["n_episodes"]) * len(self.protocol.get("splits", HALVES))

    @property
    def seconds(self) -> float:
        """Estimated, without stage one [s]."""
        frozen = self.joint.changes.get("backbone.tune") == "frozen"
        step = self.scale.seconds["frozen" if frozen else "joint"]
        return self.joint.n_steps * step + self.n_episodes * self.scale.seconds["episode"]


def read_scale(name: str) -> tuple[str, Scale]:
    """A scale's short name, and what it is: one of ours, or any file."""
    ours = {path.stem: path for path in sorted((FOLDER / "scales").glob("*.yaml"))}
    path = ours.get(name, Path(name))
    if name not in ours and path.suffix != ".yaml":
        raise BadInput(f"scale is {name!r}; allowed: {', '.join(ours)}, or the path of a YAML file")
    return path.stem, load(Scale, ["--config_path", str(path)])


def read_rows(names: Sequence[str], scale_name: str, scale: Scale, folder: Path = FOLDER) -> dict[str, Row]:
    """The named rows, or those of named groups; without any name all of the scale.

    Group by group, the reference before all others.
    """
    every = {path.stem: load(Row, ["--config_path", str(path)]) for path in sorted(folder.glob("*.yaml"))}
    like = scale.like or scale_name
    groups = get_args(Group)
    for name in names:
        if name not in every and name not in groups:
            raise choices("rows", name, (*groups, *every))
        if name in every and like not in every[name].scales:
            raise BadInput(f"rows has {name!r}, but scale is {like}; allowed for it: {', '.join(every[name].scales)}")
    found = {
        name: row
        for name, row in every.items()
        if like in row.scales and (not names or name in names or row.group in names)
    }
    if not found:
        raise BadInput(f"scale {like} has none of the rows {list(names)}")
    return dict(sorted(found.items(), key=lambda item: (groups.index(item[1].group), item[0] != REFERENCE, item[0])))


def plan(name: str, row: Row, scale: Scale, output: Path, n_cores: int) -> Plan:
    """The commands of a row; `BadInput` where it multiplies what is no number."""
    flat = {key: dict(leaves(getattr(scale, key))) for key in ("both", "video", "joint", "rollout")}
    both = dict(leaves(row.both))
    video = None
    if row.video_steps:
        its = flat["both"] | flat["video"] | both
        run = output / "video" / stage_one_name(row)
        length = _length(scale, scale.steps(row.video_steps), n_cores)
        video = Training("train_stages/video.py", scale.recipes["video"], run, its | length)
    changes = flat["both"] | flat["joint"] | both | dict(leaves(row.joint))
    recipe = read_leaves(scale.recipes["joint"]) | changes
    for key, factor in row.times.items():
        if not isinstance(recipe.get(key), int | float):
            numbers = [k for k, v in recipe.items() if isinstance(v, int | float) and not isinstance(v, bool)]
            raise BadInput(f"row {name}: times has {key!r}; allowed: {', '.join(numbers)}")
        changes[key] = float(f"{recipe[key] * factor:.6g}")
    n_steps = scale.steps(row.joint_steps / (scale.frozen if row.count == "operations" else 1.0))
    before: Changes = {"init_from": None if video is None else str(video.run)}
    folder = output / "rows" / name
    length = _length(scale, n_steps, n_cores)
    joint = Training(
        "train_stages/joint.py", scale.recipes["joint"], folder / "joint", changes | before | length, "stage_one"
    )
    rollout = flat["rollout"] | dict(leaves(row.rollout)) | {"n_workers": n_cores}
    return Plan(name, row, scale, folder, video, joint, rollout)


def stage_one_name(row: Row) -> str:
    """The same for rows whose stage one is the same."""
    its = dict(leaves(row.both)) | ({} if row.video_steps == Row.video_steps else {"steps": row.video_steps})
    return "_".join(re.sub(r"[^\w-]+", "-", f"{key}-{value}") for key, value in sorted(its.items())) or "common"


def _length(scale: Scale, n_steps: int, n_cores: int) -> Changes:
    often = max(1, n_steps // scale.n_validations)
    return {"train.n_steps": n_steps, "train.val_every": often, "train.n_threads": n_cores}
