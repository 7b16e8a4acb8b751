"""What was measured: one line for each policy on each set of episodes, in docs/results/*.jsonl.

Lines are only ever added (`python -m eval.claims.add`); of several with one `id` the last one counts.
"""

import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from eval.claims.listing import fill
from videopolicy.errors import BadInput, at_least_one

FOLDER = "docs/results"


@dataclass(frozen=True)
class Result:
    """Episodes of one policy; `grasped` are those that were lifted and not placed, None where that was not counted."""

    id: str
    command: str
    commit: str  # one or several, with words
    date: str
    machine: str
    scale: str  # network, demonstrations, steps
    n: int
    placed: int
    grasped: int | None = None
    minutes: float | None = None  # of its training
    stand_in: str | None = None  # what it was measured on in the place of what a claim is about

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)+", self.id):
            raise BadInput(f"id is {self.id!r}; allowed: suite/axis/policy")
        at_least_one(self, "n")
        if not 0 <= self.placed <= self.n:
            raise BadInput(f"placed is {self.placed}; allowed: 0 to n, {self.n}")
        if self.grasped is not None and not 0 <= self.grasped <= self.n - self.placed:
            raise BadInput(f"grasped is {self.grasped}; allowed: 0 to n less placed, {self.n - self.placed}")
        if not re.search(r"\b[0-9a-f]{7,40}\b", self.commit) or "dirty" in self.commit:
            raise BadInput(
                f"commit is {self.commit!r}; allowed: what names a commit, and nothing that was not committed"
            )
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise BadInput(f"date is {self.date!r}; allowed: YYYY-MM-DD") from None

    @property
    def made_by(self) -> str:
        """Command, commit, date, machine and scale in one line of markdown."""
        instead = f"; {self.stand_in} stands in" if self.stand_in else ""
        return f"`{self.command}`, {self.commit}, {self.date}, {self.machine}; {self.scale}{instead}"


def read_results(root: Path, faults: list[str]) -> list[Result]:
    """Every line of every file in order. Adds a line to `faults` for each that is no result."""
    found = []
    for path in sorted((root / FOLDER).glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(root).as_posix()}:{number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                faults.append(f"{where}: not JSON: {error}")
                continue
            if (result := fill(Result, values, where, faults)) is not None:
                found.append(result)
    return found
