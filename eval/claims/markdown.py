"""The claims table as markdown: what stands between two marks in docs/RESULTS.md."""

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from eval.claims.comparison import Line
from eval.claims.manuscripts import Cell
from eval.claims.rows import ReadTable
from eval.claims.verdict import Word
from videopolicy.errors import BadInput

BEGIN = "<!-- claims: made by `python -m eval.claims`, which replaces all up to the closing mark -->"
END = "<!-- /claims -->"
WIDTH = 160
WORDS: tuple[Word, ...] = get_args(Word)

INTRODUCTION = """\
## The manuscripts' claims, one by one
Every number of the manuscripts that is a result or a claim, what measures it here, what came out, and whether the two
agree. Theirs stand in `docs/claims/manuscripts`, place by place; ours are counts in `docs/results`, of which rates and
intervals (Wilson, 95 %) are computed; all are per cent where nothing else is said. They report no memory, and no
ablation of layers or noise levels. Of several places of a document one is named, the others are counted (+).

{documents}

Verdicts follow from rules (`eval/claims/verdict.py`):
- A **rate** agrees where it lies in our interval. Where their n is known, as they state it or their percentages imply
  it, it agrees where the interval of the difference of both (Newcombe) holds zero. A printed number stands for all that
  is rounded to it; where documents contradict each other, for all between, unless one of them is plainly meant.
- A **difference** agrees where our interval (Newcombe) holds theirs.
- An **ordering** agrees where our two intervals are apart, in the order that is claimed; where they overlap it is not
  yet measured. "Level" agrees where they overlap.
- A **stand-in** (the arm's twin for an arm, svd-tiny for Stable Video Diffusion) decides orderings; values are not
  measurable here, whatever the stand-in's are.
- Regression is what they call ACT: coordinates from pooled features. Episodes of one position mostly end alike, so that
  intervals are too narrow, and ours are of one training seed each. "Disagrees" says that their number was not found
  with another network and another training; it does not say why.
"""


def render(titles: Mapping[str, str], read: Sequence[ReadTable], compared: Sequence[Sequence[Line | None]]) -> str:
    """All tables; `compared` has the lines of each of `read`."""
    documents = "\n".join(f"- {letter}: {title}" for letter, title in titles.items())
    parts = [INTRODUCTION.format(documents=documents), _overview(read, compared)]
    for table, lines in zip(read, compared, strict=True):
        notes: dict[str, str] = {}
        body = _heads(table, lines, notes) if table.table.lines else _list(lines, notes)
        legend = "\n".join(f"- {letter}: {text}" for text, letter in notes.items())
        text = textwrap.fill(table.table.text, WIDTH, break_on_hyphens=False) + "\n\n" if table.table.text else ""
        parts.append(f"### {table.table.title}\n{text}{body}\n\n{legend}\n")
    return "\n".join(parts)


def insert(document: str, section: str) -> str:
    """The document with `section` between its marks; `BadInput` where they are not there once each, in order."""
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise BadInput(f"needs the lines {BEGIN!r} and {END!r} once each, in this order")
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n{section}{END}{rest.split(END)[1]}"


def without_section(document: str) -> str:
    """The rest of the document, for what was written by hand; lines keep their numbers."""
    section = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.S)
    return section.sub(lambda m: "\n" * m[0].count("\n"), document)


def _overview(read: Sequence[ReadTable], compared: Sequence[Sequence[Line | None]]) -> str:
    rows = []
    total: Counter[str] = Counter()
    for table, lines in zip(read, compared, strict=True):
        counts = Counter(line.verdict.word for line in lines if line)
        total += counts
        rows.append([table.table.title, *(str(counts[w] or "") for w in WORDS)])
    rows.append(["**all**", *(f"**{total[w]}**" for w in WORDS)])
    return _table(["rows", *WORDS], rows) + "\n"


def _list(lines: Sequence[Line | None], notes: dict[str, str]) -> str:
    rows = [
        [line.label, line.theirs, _places(line.places), line.ours, _bold(line), _by(line, notes)]
        for line in lines
        if line
    ]
    return _table(["", "theirs", "where", "ours", "verdict", "by"], rows)


def _heads(table: ReadTable, lines: Sequence[Line | None], notes: dict[str, str]) -> str:
    """A line of the manuscripts' table, its heads beside each other."""
    names = list(table.table.heads)
    cells = [cell for line in lines if line for cell in line.places]
    rows = []
    for i, words in enumerate(table.table.lines):
        mine = lines[i * len(names) : (i + 1) * len(names)]
        by = dict.fromkeys(_by(line, notes) for line in mine if line)
        parts = [[line.theirs, line.ours, _bold(line)] if line else ["", "", ""] for line in mine]
        rows.append([str(words["label"]), *(cell for part in parts for cell in part), ", ".join(by)])
    header = ["", *(word for name in names for word in (f"{name}, theirs", "ours", "verdict")), "by"]
    places = "; ".join(dict.fromkeys(f"{c.letter} {c.place}" for c in cells))
    return f"Theirs: {places}.\n\n{_table(header, rows)}"


def _places(cells: Sequence[Cell]) -> str:
    """One place of each document, a table's or an experiment's where there is one, and how many more."""
    found = []
    for letter in dict.fromkeys(c.letter for c in cells):
        places = list(dict.fromkeys(c.place for c in cells if c.letter == letter))
        named = sorted(places, key=lambda p: ("table" not in p, "section 4" not in p))[0]
        found.append(f"{letter} {named}" + (f" +{len(places) - 1}" if len(places) > 1 else ""))
    return "; ".join(found)


def _by(line: Line, notes: dict[str, str]) -> str:
    return ", ".join(notes.setdefault(text, _letter(len(notes))) for text in line.by)


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"{chr(ord('a') + number // 26 - 1)}{chr(ord('a') + number % 26)}"


def _bold(line: Line) -> str:
    return f"**{line.verdict}**" if line.verdict.word == "disagrees" else str(line.verdict)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])
