"""The manuscripts' numbers beside ours: of each row what they say, what we have, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from eval.claims.manuscripts import Cell, spell
from eval.claims.results import Result
from eval.claims.rows import BARRIERS, ReadTable, Row, Take
from eval.claims.verdict import (
    ORDERINGS,
    Estimate,
    Verdict,
    against_value,
    against_values,
    difference,
    estimate,
    keeps,
    level,
    ordered,
    ratio,
)
from videopolicy.data.files import reading
from videopolicy.errors import BadInput


@dataclass(frozen=True)
class Line:
    """A row, compared; empty words where there is nothing to say."""

    label: str
    theirs: str
    places: list[Cell]
    ours: str
    verdict: Verdict
    by: list[str]  # what measured ours, or what would


@dataclass(frozen=True)
class Known:
    """What rows are compared by: all cells by claim, the newest result by id, and where configurations are found."""

    cells: Mapping[str, Sequence[Cell]]
    results: Mapping[str, Result]
    root: Path


def compare(read: ReadTable, known: Known, faults: list[str]) -> list[Line | None]:
    """A line for each row; None for what the manuscripts leave blank in a table of lines and heads."""
    lines: list[Line | None] = []
    for row in read.rows:
        if row.claim is not None and row.claim not in known.cells:
            if read.table.rows:
                faults.append(f"{read.where}: {row.label}: no manuscript has {row.claim}")
            lines.append(None)
            continue
        try:
            lines.append(_line(row, read, known))
        except BadInput as error:
            faults.append(f"{read.where}: {row.label}: {error}")
    return lines


def _line(row: Row, read: ReadTable, known: Known) -> Line:
    cells = list(known.cells.get(row.claim, ())) if row.claim else []
    low, high, theirs = _theirs(row, cells, read.takes)
    ids = [*row.ours, *row.against]
    found = [known.results[i] for i in ids if i in known.results]
    command = row.command or read.table.command
    if row.rule == "setting" and row.config:
        value = sum(_setting(known.root, name) for name in row.config)
        same = (
            Verdict("agrees") if low <= value <= high else Verdict("disagrees", "higher" if value > high else "lower")
        )
        return Line(row.label, theirs, cells, f"{value:g}", same, [", ".join(f"`{c}`" for c in row.config)])
    complete = bool(ids) and len(found) == len(ids)
    if row.rule == "at_most":
        complete = complete and all(r.minutes is not None for r in found)
    if row.of != "placed":
        complete = complete and all(r.grasped is not None for r in found)
    by = list(dict.fromkeys(r.made_by for r in found)) if complete else []
    ours, verdict = _measured(row, known, low, high) if complete else ("", Verdict("not yet measured"))
    if complete and row.rule not in ORDERINGS and row.barrier is None and any(r.stand_in for r in found):
        raise BadInput("its result is a stand-in's, which decides orderings alone; name the 'barrier'")
    if row.barrier is not None and (row.rule not in ORDERINGS or not complete):
        verdict = Verdict("not measurable here", BARRIERS[row.barrier])
        if row.command:
            by.append(f"what would: `{row.command}`")
    elif not complete:
        if command is None:
            raise BadInput("neither measured nor a 'command' that measures it, nor a 'barrier'")
        by = [f"what will: `{command}`"]
    return Line(row.label, theirs, cells, ours, verdict, by)


def _theirs(row: Row, cells: Sequence[Cell], takes: Mapping[str, Take]) -> tuple[float, float, str]:
    """The value that counts, its ends, and how it is written."""
    values = sorted({(c.low, c.high) for c in cells})
    take = takes.get(row.claim or "")
    if not values:
        return 0.0, 0.0, ""
    if len(values) == 1:
        if take is not None:
            raise BadInput(f"'takes' names {row.claim}, of which the manuscripts have one value alone")
        (low, high), more = values[0], ""
    elif take is None:
        spelled = ", ".join(spell(*v) for v in values)
        raise BadInput(f"the manuscripts have {spelled} for {row.claim}; 'takes' must say which counts, and why")
    elif take.value == "range":
        low, high, more = values[0][0], max(v[1] for v in values), ""
    else:
        low = high = float(take.value)
        if (low, high) not in values:
            raise BadInput(f"'takes' has {take.value} for {row.claim}; allowed: {', '.join(spell(*v) for v in values)}")
        more = f" (elsewhere {', '.join(spell(*v) for v in values if v != (low, high))})"
    unit = "" if row.unit in ("%", "steps", "m", "min", "$") else row.unit
    return low, high, f"{spell(low, high)}{unit}{f', n {row.n}' if row.n else ''}{more}"


def _measured(row: Row, known: Known, low: float, high: float) -> tuple[str, Verdict]:
    """How ours is written, and what the rule says of it."""
    results, others = ([known.results[i] for i in ids] for ids in (row.ours, row.against))
    if row.rule == "at_most":
        minutes = sum(r.minutes or 0.0 for r in results)
        return f"{minutes:g}", Verdict("agrees") if minutes <= high else Verdict("disagrees", "longer")
    if row.rule in ("each", "keeps"):
        each = [estimate([r], row.of) for r in results]
        verdict = keeps(each, low) if row.rule == "keeps" else against_values(each, low, high)
        return _ends(each), verdict
    if row.rule == "differences":
        each = [difference(*(estimate([r], row.of) for r in pair)) for pair in zip(results, others, strict=True)]
        return _ends(each), against_values(each, low, high)
    first = estimate(results, row.of)
    if row.rule == "rate":
        return _counted(results, row, first), against_value(first, low, high, row.n)
    second = estimate(others, row.of)
    if row.rule in ORDERINGS:
        words = f"{_counted(results, row, first)} against {_counted(others, row, second)}"
        return words, (ordered if row.rule == "above" else level)(first, second)
    both = (ratio if row.rule == "ratio" else difference)(first, second)
    return str(both), against_value(both, low, high)


def _counted(results: Sequence[Result], row: Row, rate: Estimate) -> str:
    """A rate after what was counted: episodes of n."""
    n = sum(r.n for r in results)
    if row.of == "weighted":
        return f"{rate}, n {n}"
    parts = {"placed": [r.placed for r in results], "grasped": [r.grasped or 0 for r in results]}
    k = sum(sum(parts[p]) for p in ([row.of] if row.of in parts else parts))
    return f"{k}/{n}: {rate}"


def _ends(each: Sequence[Estimate]) -> str:
    values = [e.value for e in each]
    return f"{min(values):.1f} to {max(values):.1f}"


def _setting(root: Path, name: str) -> float:
    """A number of a configuration, named file:key.key."""
    file, _, keys = name.partition(":")
    path = root / file
    with reading(path):
        value = yaml.safe_load(path.read_text())
        for key in keys.split("."):
            value = value[key]
        if type(value) not in (int, float):
            raise BadInput(f"{keys} is {value!r}; allowed: a number")
    return float(value)
