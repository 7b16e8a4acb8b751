"""A run of one of `train_stages`' scripts: a recipe, what is changed of it, and whether what is there is that run."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eval.episodes import OTHER
from videopolicy.data.files import reading
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.resume import FREE, leaves, within

ROOT = Path(__file__).parent.parent


class Damaged(BadInput):
    """A run of which no checkpoint is whole: what needs it cannot be had, the rest can."""


@dataclass(frozen=True)
class Training:
    """What the command `script --config_path recipe --run run --key value ...` trains."""

    script: str  # from the repository's root, as train_stages/joint.py
    recipe: Path
    run: Path
    changes: dict[str, Any]  # by the command line's names; among them train.n_steps
    source: str = "init_from"  # what the script's checkpoints call the digest of what `init_from` names

    @property
    def n_steps(self) -> int:
        return int(self.changes["train.n_steps"])

    @property
    def log(self) -> Path:
        return self.run.with_suffix(".log")

    def words(self) -> list[str]:
        """The command without the interpreter."""
        return [self.script, "--config_path", str(self.recipe), *words({"run": self.run, **self.changes})]

    def command(self, launcher: Sequence[str] = (sys.executable,)) -> list[str]:
        """To be run in the folder that its paths are relative to."""
        script, *rest = self.words()
        return [*launcher, str(ROOT / script), *rest]

    def settings(self) -> dict[str, Any]:
        """All that recipe and changes say, by the command line's names."""
        return read_leaves(self.recipe) | {"run": self.run} | self.changes

    def asked(self) -> dict[str, Any]:
        """What it says of its run, but for keys that change nothing that is learned."""
        return {key: value for key, value in self.settings().items() if key == "train.n_steps" or not within(key, FREE)}

    def done(self) -> bool:
        """Whether it has been trained to its end.

        `BadInput` where the run is there, and is of other data, another recipe or another source; or `Damaged`.
        """
        try:
            found = checkpoint.latest(self.run) if self.run.is_dir() else None
        except BadInput as error:
            raise Damaged(f"{error}; remove it, and it is trained anew") from error
        if found is None:
            return False
        refuse(str(self.run), "was trained", dict(leaves(checkpoint.read_config(found))), self.asked())
        state, digest = checkpoint.read_state(found), self.source_digest()
        if digest is not None and state.get(self.source) != digest:
            begun = self.changes["init_from"]
            raise BadInput(f"{self.run} was tuned from other weights than {begun} has now; {OTHER}")
        return state["step"] >= self.n_steps

    def source_digest(self) -> str | None:
        """Of the weights that it begins with now; None where it begins with no run's."""
        before = self.changes.get("init_from")
        return None if before is None else checkpoint.weights_digest(checkpoint.find(Path(before)))


def read_leaves(recipe: Path) -> dict[str, Any]:
    """What a recipe says, by the command line's names."""
    with reading(recipe):
        return dict(leaves(yaml.safe_load(recipe.read_text())))


def refuse(what: str, was_made: str, made: dict[str, Any], asked: dict[str, Any]) -> None:
    """`BadInput` where something that is there was made with another value than one that is asked for."""
    for name, value in asked.items():
        if name not in made:
            raise BadInput(f"{what} {was_made} without {name}, not with {value}; {OTHER}")
        if made[name] != value and str(made[name]) != str(value):  # perhaps read from text
            raise BadInput(f"{what} {was_made} with {name} {made[name]}, not {value}; {OTHER}")


def words(changes: dict[str, Any]) -> list[str]:
    """Keys and values as the command line takes them."""
    return [
        word
        for name, value in changes.items()
        for word in (f"--{name}", json.dumps(value) if isinstance(value, bool | list | dict | None) else str(value))
    ]


def failure(what: str, status: int, log: Path) -> BadInput:
    """A program's end, by the last line of its log."""
    last = (log.read_text().strip().splitlines() or ["nothing"])[-1]
    return BadInput(f"{what} ended with status {status}: {last} (see {log})")
