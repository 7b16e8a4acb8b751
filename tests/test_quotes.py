"""Figures that documents quote: what counts as one, where it is looked up, that no digit can change."""

import re
from pathlib import Path

import pytest

from eval.claims.__main__ import TARGET
from eval.claims.listing import fill, read_mapping
from eval.claims.markdown import without_section
from eval.claims.quotes import FILE, Quote, check, figures, gather
from eval.claims.results import read_results

ROOT = Path(__file__).parent.parent
DASH = "\N{EN DASH}"


@pytest.mark.parametrize("name", ["README.md", "docs/ROBOT.md"])
def test_every_digit_of_every_figure_counts(name: str) -> None:
    """The first digit of all figures, then the second, and so on: each is one more, and each figure is named."""
    listed = [q for e in read_mapping(ROOT / FILE)[name] if (q := fill(Quote, e, name, [])) is not None]
    evidence = gather(without_section((ROOT / TARGET).read_text()), read_results(ROOT, []))
    document = (ROOT / name).read_text()
    assert check(name, document, listed, evidence) == []
    found = list(figures(document, evidence))
    assert len(found) > 4
    digits = [[f.start + m.start() for m in re.finditer(r"\d(?!\w*`)", f.words)] for f in found]
    for number in range(max(map(len, digits))):
        changed = list(document)
        for places in digits:
            for place in places[number : number + 1]:
                changed[place] = str((int(document[place]) + 1) % 10)
        text = "".join(changed)
        said = "\n".join(check(name, text, listed, evidence))
        for figure, places in zip(found, digits, strict=True):
            words = " ".join(text[figure.start : figure.start + len(figure.words)].split())
            assert len(places) <= number or f": {words!r} stands neither" in said, words


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("It takes 12 minutes, or 3 to 4 hours.", ["12 minutes", "3 to 4 hours"]),
        ("two to five\nminutes; six times; half an hour", ["two to five\nminutes", "six times", "half an hour"]),
        ("5.78 GiB, 0.5 ms, 186x and 30 %", ["5.78 GiB", "0.5 ms", "186x", "30 %"]),
        ("on 57 cameras of 16 x 16 cells, Python 3.11, v3.0, Apache-2.0, section 4.3", []),
        ("`--lr 0.5` and [12 s](a/0.5.md) are code", ["12 s"]),
        ("```bash\nmake demo 3.5  # takes 9 minutes\n```\nthen 8 s", ["9 minutes", "8 s"]),
        ("| step | seconds |\n|---|---|\n| collect | 225 |\n", ["225"]),
        ("39 of 40 (80-97 %), 2/40", ["39 of 40 (80-97 %)", "2/40"]),
    ],
)
def test_what_counts_as_a_quoted_figure(text: str, quoted: list[str]) -> None:
    assert [f.words for f in sorted(figures(text, gather("", [])), key=lambda f: f.start)] == quoted


def test_what_was_measured_is_found() -> None:
    table = f"| collect | 225 | 2.76 |\n| video | 140 | 2.42 |\n| para | 40 | 92.5 | 80.1{DASH}97.4 | 37/40 |\n"
    evidence = gather(table, read_results(ROOT, []))
    head = "| step | seconds | GiB |\n|---|---|---|\n"
    for text, found in (
        (f"{head}| collect | 225 | 2.76 |\n", True),
        (f"{head}| video | 225 | 2.76 |\n", False),  # another step's
        (f"92.5 (80.1{DASH}97.4)", True),
        ("37 of 40 cups (80-97 %)", True),
        ("37 of 40 (80-98 %)", False),
        ("38 of 40", False),
    ):
        assert all(f.found for f in figures(text, evidence)) == found, text
