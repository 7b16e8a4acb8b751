"""What benchmarks and probes have written as JSON, as tables; of any form, so that new ones need nothing here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.site.found import BENCH, Found
from eval.site.media import Media, slug
from eval.site.suites import date
from videopolicy.data.files import read_json

PICTURES = ("sheet.png",)  # that stand beside some
N_LONG = 12  # numbers of a list that are shown


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass
class Measurement:
    title: str
    anchor: str
    command: str | None
    date: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


def measurement_of(path: Path, found: Found, media: Media) -> Measurement | None:
    """None, and a problem noted, where the file cannot be read."""
    with found.noting(path):
        contents = read_json(path)
        bench = path.parent.name == BENCH
        title = f"bench/{path.stem}" if bench else found.name(path.parent)
        command = f"python -m bench.{path.stem} --json {path}" if bench else None
        made = Measurement(title, slug(title), command, date(path.stat().st_mtime))
        for name, value in contents.items():
            if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
                made.tables.append(table(name, [flat(v) for v in value]))
            elif isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
                made.tables.append(table(name, [{"": key, **flat(v)} for key, v in value.items()]))
            else:
                made.facts += [(key, said(v)) for key, v in flat({name: value}).items()]
        made.pictures = [media.add(path.parent / name) for name in PICTURES if (path.parent / name).is_file()]
        return made
    return None


def table(title: str, rows: list[dict]) -> Table:
    """Of rows that need not have the same keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Table(title, columns, [[said(row[c]) if c in row else "\u2013" for c in columns] for row in rows])


def flat(value: dict, prefix: str = "") -> dict[str, Any]:
    """Nested keys as `outer.inner`."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": inner}
    return found


def said(value: Any) -> str:
    """A value as a table shows it: numbers with four figures, lists up to a length."""
    if value is None:
        return "\u2013"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(said, value[:N_LONG])) + (f", … ({len(value)})" if len(value) > N_LONG else "")
    return str(value)
