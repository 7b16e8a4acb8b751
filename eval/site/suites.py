"""A suite on the site: a page that is its own report, and the rows of its table for the overview."""

from dataclasses import dataclass
from datetime import UTC, datetime

from eval.site.found import Found, Suite
from eval.site.fragment import Fragment
from eval.site.media import Media, slug
from videopolicy.data.files import read_json
from videopolicy.errors import BadInput
from videopolicy.names import label


@dataclass(frozen=True)
class Row:
    """A row of a suite's table, as its summary has it."""

    names: tuple[str, ...]
    n: int
    place: float  # [%]
    wilson95: tuple[float, float]  # [%]
    grasp: float  # [%]


@dataclass(frozen=True)
class SuitePage:
    """What the overview and the page itself say of a suite."""

    suite: Suite
    file: str
    title: str
    body: str
    contents: list[tuple[str, str]]
    columns: tuple[str, ...]
    rows: list[Row]
    made_at: str  # by which commits
    date: str
    stale: bool

    @property
    def n_episodes(self) -> int:
        return sum(row.n for row in self.rows)


def page_of(suite: Suite, found: Found, media: Media) -> SuitePage | None:
    """None, and a problem noted, where its report or its summary cannot be read."""
    with found.noting(suite.folder):
        summary = read_json(suite.folder / suite.kind.summary)
        rows = [_row(suite, row) for table in suite.kind.tables for row in summary.get(table) or []]
        if not suite.report.is_file():
            raise BadInput(f"{suite.report} is missing; {suite.command}")
        fragment = Fragment(suite.report, media)
        if not fragment.title:
            raise BadInput(f"{suite.report} is no report: it has no heading; {suite.command}")
        for what in fragment.missing:
            found.problems.append((suite.name, f"{suite.report} lacks a picture: {what}"))
        return SuitePage(
            suite,
            f"suite-{slug(suite.name)}.html",
            fragment.title,
            fragment.html,
            fragment.contents,
            suite.kind.columns,
            rows,
            _made_at(summary),
            date(suite.newest()),
            suite.is_stale(),
        )
    return None


def _made_at(summary: dict) -> str:
    """What made the episodes; where they do not say, what made their report."""
    if commits := summary.get("rolled_out_at"):
        return f"rolled out at {', '.join(map(str, commits))}"
    return f"reported at {summary['commit']}"


def _row(suite: Suite, row: dict) -> Row:
    names = [str(row.get(column, "")) for column in suite.kind.columns]
    cells = zip(suite.kind.columns, names, strict=True)
    shown = tuple(label(name) if column == "policy" else name.replace("_", " ") for column, name in cells)
    low, high = row["wilson95"]
    return Row(shown, int(row["n"]), float(row["place"]), (float(low), float(high)), float(row["grasp"]))


def date(seconds: float) -> str:
    """Of a time since the epoch, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") + " UTC"
