"""Rows of the claims table: which claim, which of our results it is held against, and by which rule.

docs/claims/tables/*.yaml, a table each: either `rows`, or `lines` and `heads` whose rows are made from the patterns
`claim`, `ours` and `of`, in which {head} and a line's own keys are filled in.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from eval.claims.listing import fill, read_mapping
from eval.claims.verdict import ORDERINGS, Of, Rule
from videopolicy.errors import BadInput, choices

FOLDER = "docs/claims/tables"
BARRIERS = {
    "arm": "no arm",
    "cloth": "no arm, no cloth",
    "weights": "no published weights",
    "unstated": "they do not say how",
}
PAIRED = ("difference", "differences", "ratio", *ORDERINGS)  # rules that need `against`


@dataclass(frozen=True)
class Row:
    label: str
    claim: str | None = None  # of the manuscripts' cells; None of an ordering, which is no number
    rule: Rule = "rate"
    ours: tuple[str, ...] = ()  # results by id
    against: tuple[str, ...] = ()
    of: Of = "placed"
    n: int | None = None  # the manuscripts'
    unit: str = "%"
    barrier: Literal["arm", "cloth", "weights", "unstated"] | None = None
    command: str | None = None  # what measures it, where `ours` is not there yet or only a stand-in
    config: tuple[str, ...] = ()  # file:key, whose values are added

    def __post_init__(self) -> None:
        if self.claim is None and self.rule not in ORDERINGS:
            raise BadInput(f"claim is missing; allowed without one: rules {', '.join(ORDERINGS)}")
        if self.ours and (self.rule in PAIRED) != bool(self.against):
            raise BadInput(f"rule {self.rule!r} {'needs' if self.rule in PAIRED else 'has no'} 'against'")
        if self.rule in ("differences",) and len(self.ours) != len(self.against):
            raise BadInput(f"{len(self.ours)} results in 'ours', {len(self.against)} in 'against'; allowed: as many")
        if self.config and self.rule != "setting":
            raise BadInput(f"rule {self.rule!r} has no 'config'; allowed: 'setting'")


@dataclass(frozen=True)
class Take:
    """Which of several values of one claim counts where the manuscripts contradict themselves, and why."""

    value: Any  # a number, or "range" for all between the lowest and the highest
    why: str

    def __post_init__(self) -> None:
        if self.value != "range" and type(self.value) not in (int, float):
            raise choices("value", self.value, ["range", 54])


@dataclass(frozen=True)
class Table:
    """One of the manuscripts' tables; `key` names the file."""

    title: str
    text: str = ""
    command: str | None = None  # of rows that have none
    takes: dict[str, dict] = field(default_factory=dict)
    rows: tuple[dict, ...] = ()
    heads: dict[str, str] = field(default_factory=dict)
    lines: tuple[dict, ...] = ()
    claim: str = ""
    ours: str = ""
    of: str = "placed"
    n: int | None = None

    def __post_init__(self) -> None:
        if bool(self.rows) == bool(self.lines):
            raise BadInput(f"a table has {'both' if self.rows else 'neither'} of 'rows' and 'lines'; allowed: one")
        if self.lines and not (self.claim and self.ours and self.heads):
            missing = [name for name in ("heads", "claim", "ours") if not getattr(self, name)]
            raise BadInput(f"a table of 'lines' is without {', '.join(missing)}; allowed: all of heads, claim, ours")


@dataclass(frozen=True)
class ReadTable:
    where: str
    table: Table
    takes: dict[str, Take]
    rows: list[Row]  # of `lines`: one for each head of each line, in this order


def read_tables(root: Path, faults: list[str]) -> list[ReadTable]:
    """All tables in the order of their files' names. Adds a line to `faults` for each entry that is not in order."""
    found = []
    for path in sorted((root / FOLDER).glob("*.yaml")):
        where = path.relative_to(root).as_posix()
        try:
            table = fill(Table, read_mapping(path), where, faults)
        except BadInput as error:
            faults.append(str(error))
            continue
        if table is None:
            continue
        takes = {claim: fill(Take, values, f"{where}: takes {claim}", faults) for claim, values in table.takes.items()}
        rows = []
        for number, values in enumerate(table.rows or _drawn(table, where, faults), 1):
            name = values.get("label", "") if isinstance(values, dict) else ""
            row = fill(Row, values, f"{where}: row {number} ({name})", faults)
            if row is not None:
                rows.append(row)
        found.append(ReadTable(where, table, {c: t for c, t in takes.items() if t is not None}, rows))
    return found


def _drawn(table: Table, where: str, faults: list[str]) -> list[dict]:
    """Rows of a table of lines and heads, from its patterns."""
    rows = []
    for line in table.lines:
        for head in table.heads.values():
            try:
                claim, ours, of = (p.format(**line, head=head) for p in (table.claim, table.ours, table.of))
            except KeyError as error:
                faults.append(f"{where}: line {line.get('label')!r} has no key {error}, which a pattern names")
                continue
            if of not in get_args(Of):
                faults.append(f"{where}: line {line.get('label')!r}: {choices('of', of, get_args(Of))}")
                continue
            row = {"label": str(line.get("label")), "claim": claim, "ours": [ours], "of": of}
            rows.append(row | ({"n": table.n} if table.n is not None else {}))
    return rows
