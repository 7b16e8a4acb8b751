"""Which policies a few-shot suite compares, and in what order it measures them. Section 4.4."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videopolicy.errors import BadInput

Kind = Literal["para", "regression"]
Pretrain = Literal["scratch", "2d", "3d"]
Beginning = Literal[Pretrain, "equal"]  # equal: from scratch, for as many steps as pretraining and tuning together
BEGINNINGS: tuple[Beginning, ...] = ("scratch", "equal", "2d", "3d")


@dataclass(frozen=True)
class Config:
    """Which cells to fill, from which data, and at what cost."""

    output: Path = Path("runs/fewshot")
    robot: Path = Path("data/grid")  # demonstrations to tune on
    circles: Path = Path("data/circles")  # demonstrations to pretrain on, of `eval.collect --overlay circle`
    policies: tuple[Kind, ...] = ("para", "regression")
    pretrain: tuple[Pretrain, ...] = ("scratch", "2d", "3d")
    demos: tuple[int, ...] = (1, 3, 5, 10, 20, 256)  # the dataset's whole number: from scratch alone, the upper bound
    equal_compute: tuple[
        int, ...
    ] = ()  # of `demos`: where scratch is trained for pretraining's steps too, in a row more
    seeds: tuple[int, ...] = (0, 1)  # of the demonstrations' choice and of the weights
    n_episodes: int = 50  # of each seed
    n_steps_pretrain: int = 1300
    n_steps: int = 400  # of tuning, and from scratch
    n_steps_all: int = 1300  # from all demonstrations
    n_parallel: int = 2  # trainings at a time, of one core each


@dataclass(frozen=True)
class Cell:
    """One policy: a head, what it began as, and what it was shown."""

    kind: Kind
    pretrain: Beginning
    demos: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.pretrain}_{self.demos}_{self.seed}"


@dataclass(frozen=True)
class Round:
    """Cells that are compared with each other, and therefore filled together."""

    kinds: tuple[str, ...]
    pretrain: tuple[str, ...]
    demos: tuple[int, ...]  # none: any

    def has(self, cell: Cell) -> bool:
        shown = not self.demos or cell.demos in self.demos
        return shown and cell.kind in self.kinds and cell.pretrain in self.pretrain


# What section 4.4 claims, the first claim first; then where regression is said to be ahead.
CLAIMS = (
    Round(("para",), ("scratch", "3d"), (10,)),
    Round(("para",), ("scratch", "3d"), (5,)),
    Round(("para",), ("scratch", "2d"), (1, 3, 5)),
    Round(("para",), ("equal",), ()),
    Round(("para", "regression"), ("scratch", "2d", "3d"), (20,)),
)


def cells_of(cfg: Config, n_all: int) -> list[Cell]:
    """The named cells, all seeds of a table's row in sequence; from all `n_all` demonstrations none is pretrained."""
    found = []
    for kind, demos in itertools.product(dict.fromkeys(cfg.policies), dict.fromkeys(cfg.demos)):
        begun: list[Beginning] = [p for p in dict.fromkeys(cfg.pretrain) if demos < n_all or p == "scratch"]
        if "scratch" in begun and demos in cfg.equal_compute and demos < n_all:
            begun.append("equal")
        found += [Cell(kind, p, demos, seed) for p in begun for seed in dict.fromkeys(cfg.seeds)]
    if not found:
        raise BadInput(
            f"pretrain is {list(cfg.pretrain)}, but all {n_all} demos are only from scratch; allowed: scratch"
        )
    return found


def rounds(cells: Collection[Cell]) -> list[list[Cell]]:
    """The same cells in the order in which they are filled: those of each claim, then the rest by demonstrations."""
    left, found = list(cells), []
    rest = [Round(("para", "regression"), BEGINNINGS, (n,)) for n in dict.fromkeys(c.demos for c in cells)]
    for each in (*CLAIMS, *rest):
        found.append([c for c in left if each.has(c)])
        left = [c for c in left if not each.has(c)]
    return [its for its in found if its]
