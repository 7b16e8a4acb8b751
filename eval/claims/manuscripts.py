"""The manuscripts' numbers: every place of every document at which one stands. The documents are not kept here."""

from dataclasses import dataclass
from pathlib import Path

from eval.claims.listing import fill, read_mapping
from eval.claims.verdict import DASH
from videopolicy.errors import BadInput

FOLDER = "docs/claims/manuscripts"


@dataclass(frozen=True)
class Cell:
    """One number at one place; `low` and `high` are the same but where a range is claimed."""

    letter: str  # of the document
    place: str
    claim: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.letter} {self.place}: {self.claim} {spell(self.low, self.high)}"


@dataclass(frozen=True)
class Manuscript:
    letter: str
    title: str
    cells: dict[str, dict]  # by place, then claim


def spell(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}{DASH}{high:g}"


def read_manuscripts(root: Path, faults: list[str]) -> tuple[dict[str, str], list[Cell]]:
    """Titles by letter, and all cells. Adds a line to `faults` for each file or cell that is not as it should be."""
    titles: dict[str, str] = {}
    cells: list[Cell] = []
    for path in sorted((root / FOLDER).glob("*.yaml")):
        where = path.relative_to(root).as_posix()
        try:
            document = fill(Manuscript, read_mapping(path), where, faults)
        except BadInput as error:
            faults.append(str(error))
            continue
        if document is None:
            continue
        if document.letter in titles:
            faults.append(f"{where}: letter is {document.letter!r}, which {titles[document.letter]!r} has")
            continue
        titles[document.letter] = document.title
        for place, claims in document.cells.items():
            for claim, value in claims.items():
                limits = value if isinstance(value, list) else [value, value]
                if [type(v) in (int, float) for v in limits] != [True, True] or limits[0] > limits[1]:
                    faults.append(f"{where}: {place}: {claim} is {value!r}; allowed: a number, or [lowest, highest]")
                    continue
                cells.append(Cell(document.letter, place, str(claim), *map(float, limits)))
    if not cells:
        faults.append(f"{FOLDER} holds no numbers")
    return titles, cells
