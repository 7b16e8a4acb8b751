"""Figures that documents quote: each must have been measured.

A quoted figure is, outside of code between backticks, of code blocks in a language (whose comments count) and of links,
1. a count of a count, `37 of 40` or `48/50`, with the interval that may follow in brackets;
2. a rate with its interval, `92.0 (85.0-95.9)`;
3. a number or a range, in digits or words, with a unit of rate, time, memory or ratio: %, per cent, s, ms, seconds,
   minutes, hours, kB to TB, KiB to TiB, Hz, 3x, times, -fold; a number in a table's column under such a unit;
4. any other number with a decimal point, but for sections and versions (`Python 3.11`, `v3.0`, `Apache-2`); `n = 9`.

The first two are looked up in docs/RESULTS.md (without the generated claims) and docs/results: just this count, whose
Wilson interval is the quoted one; a rate with just this interval. So is a line of a table, or of a code block without a
language, that holds one of the others: one line of a table there must have all its numbers, and the words before them.
What is not found must stand in docs/claims/quotes.yaml: `text` in the document's words, and either `measured`, what
docs/RESULTS.md says word for word, or `setting`, why it is nothing that was measured. A text that the document, or a
measurement that docs/RESULTS.md, does not hold any more is a fault too: neither changes without the other.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.claims.results import Result
from videopolicy.errors import BadInput
from videopolicy.rates import wilson95

FILE = "docs/claims/quotes.yaml"

NUMBER = r"\d+(?:\.\d+)?"
_WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|ninety"
_ONE = rf"(?:{NUMBER}|(?i:\b(?:{_WORDS})\b|\b(?:half )?an?(?=\s+(?:hour|minute)\b)))"
_UNIT = r"(?:%|per\s+cent\b|m?s\b|min\b|h\b|(?:second|minute|hour)s?\b|[kKMGT]i?B\b|Hz\b|times\b|-fold\b)"
_DASH = r"\s*(?:\u2013|-|\bto\b|\band\b|\bor\b)\s*"
_INTERVAL = rf"\(\s*(?:Wilson\s+)?({NUMBER})(?:\u2013|-|\s+to\s+)({NUMBER})(?:\s*%)?\s*\)"
COUNT = re.compile(rf"(?<![\w./])(\d+)(?:/|\s+of\s+)(\d+)(?![\w/]|\.\d)(?:(?:\s+[a-z]+)?\s*{_INTERVAL})?")
RATE = re.compile(rf"(?<![\w.])({NUMBER})\s*%?\s*{_INTERVAL}")
ALONE = re.compile(
    rf"(?<![\w.])(?:{_ONE}(?:{_DASH}{_ONE})*(?:\s*{_UNIT}|[x\u00d7](?!\w))|\({NUMBER}[\u2013-]{NUMBER}\s*%?\)|n\s*=\s*\d+"
    r"|(?<![A-Za-z]-)(?<!section )(?<!Python )\d+\.\d+(?!\.?\w))"
)
_HEADER = re.compile(rf"(?:^|[\s\[(]){_UNIT}")


@dataclass(frozen=True)
class Quote:
    """An entry of the list of what is not looked up by itself."""

    text: str
    measured: tuple[str, ...] = ()
    setting: str = ""

    def __post_init__(self) -> None:
        if bool(self.measured) == bool(self.setting.strip()):
            has = "both" if self.measured else "neither"
            raise BadInput(f"{self.text!r} has {has} of 'measured' and 'setting'; allowed: one")


@dataclass(frozen=True)
class Evidence:
    """What was measured, in the forms in which it may be quoted."""

    text: str  # docs/RESULTS.md, white space as single blanks
    rates: frozenset[tuple[str, ...]]
    counts: frozenset[tuple[int, int]]
    lines: tuple[tuple[set[str], Counter[str]], ...]  # of tables: words, numbers


@dataclass(frozen=True)
class Figure:
    start: int
    words: str
    found: bool
    parts: tuple[tuple[int, int], ...]  # spans that the list must cover where it was not found


def gather(document: str, results: Sequence[Result]) -> Evidence:
    """From docs/RESULTS.md without its generated section, and from the result files."""
    rates = {m.groups() for m in RATE.finditer(document)}
    rates |= {m.groups() for m in re.finditer(rf"({NUMBER})\**\s*\|\s*({NUMBER})[\u2013-]({NUMBER})\s*\|", document)}
    counts = {(int(m[1]), int(m[2])) for m in COUNT.finditer(document)}
    rows = [line for line in document.splitlines() if line.startswith("|")]
    for r in results:
        low, high = wilson95(r.placed, r.n)
        place = f"{100 * r.placed / r.n:.1f}"
        counts.add((r.placed, r.n))
        rates.add((place, f"{low:.1f}", f"{high:.1f}"))
        rows.append(f"{r.id.replace('/', ' ')} | {r.n} {r.placed} {place} {low:.1f} {high:.1f}")
    lines = tuple((_words(row), Counter(re.findall(NUMBER, row))) for row in rows)
    return Evidence(_plain(document), frozenset(rates), frozenset(counts), lines)


def check(name: str, document: str, quotes: Sequence[Quote], evidence: Evidence) -> list[str]:
    """A line for each figure of a document that was not measured, and for each entry that is not in order."""
    faults, listed = [], []
    for quote in quotes:
        pattern = re.compile(r"\s+".join(map(re.escape, quote.text.split())))
        spans = [m.span() for m in pattern.finditer(document)]
        listed += spans
        if not spans:
            faults.append(
                f"{FILE}: {name} does not say {quote.text!r}; correct one of them, or remove it from the list"
            )
        gone = [words for words in quote.measured if _plain(words) not in evidence.text]
        faults += [f"{FILE}: {name}, {quote.text!r}: docs/RESULTS.md does not say {words!r}" for words in gone]
    for figure in sorted(figures(document, evidence), key=lambda f: f.start):
        missing = [s for s in figure.parts if not any(a <= s[0] and s[1] <= b for a, b in listed)]
        if not figure.found and missing:
            line = document.count("\n", 0, figure.start) + 1
            faults.append(
                f"{name}:{line}: {_plain(figure.words)!r} stands neither in docs/RESULTS.md nor in docs/results;"
                f" measure it, or list it in {FILE}"
            )
    return faults


def figures(document: str, evidence: Evidence) -> Iterator[Figure]:
    """All quoted figures of a document, and whether each is found by itself."""
    text = _masked(document)
    for pattern, known in ((COUNT, _counted), (RATE, _rated)):
        for m in pattern.finditer(text):
            yield Figure(m.start(), m[0], known(m, evidence), (m.span(),))
        text = pattern.sub(lambda m: _blank(m[0]), text)
    alone = {m.span() for m in ALONE.finditer(text)} | {*_under_units(text)}
    for start, stop in _lines(text):
        numbers = Counter(re.findall(rf"(?<![\w.]){NUMBER}(?!\w)", text[start:stop]))
        parts = tuple(sorted(s for s in alone if start <= s[0] and s[1] <= stop))
        if parts and numbers.total() > 1:
            first = re.search(rf"(?<![\w.]){NUMBER}", text[start:stop])
            words = _words(document[start : start + first.start()]) if first else set()
            found = any(words <= w and numbers <= n for w, n in evidence.lines)
            yield Figure(start, document[start:stop], found, parts)
            alone -= {*parts}
    for start, stop in sorted(alone):
        yield Figure(start, document[start:stop], False, ((start, stop),))


def _counted(m: re.Match, evidence: Evidence) -> bool:
    k, n = int(m[1]), int(m[2])
    if (k, n) not in evidence.counts or k > n:
        return False
    if m[3] is None:
        return True
    decimals = max(len(end.partition(".")[2]) for end in (m[3], m[4]))
    return (float(m[3]), float(m[4])) == wilson95(k, n, decimals)


def _rated(m: re.Match, evidence: Evidence) -> bool:
    return m.groups() in evidence.rates


def _masked(document: str) -> str:
    """The same length, with blanks for what is code, a link's address or a comment of HTML."""
    parts = re.split(r"(^ *```.*?^ *```)", document, flags=re.M | re.S)
    for i, part in enumerate(parts):
        if i % 2:
            if not part.lstrip().startswith("```\n"):  # of a language: comments alone
                parts[i] = re.sub(r"^[^#\n]*", lambda m: _blank(m[0]), part, flags=re.M)
        else:
            parts[i] = re.sub(r"(`+).+?\1|\]\([^)\s]*\)|<!--.*?-->", lambda m: _blank(m[0]), part, flags=re.S)
    return "".join(parts)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Spans of a table's rows, and of what stands in code blocks without a language; `text` is masked."""
    inside, start = False, 0
    for line in text.splitlines(True):
        stop = start + len(line.rstrip("\n"))
        if line.strip() == "```":
            inside = not inside
        elif inside or line.startswith("|"):
            yield start, stop
        start += len(line)


def _under_units(text: str) -> Iterator[tuple[int, int]]:
    """Spans of numbers in columns of tables whose title names a unit."""
    titles: list[str] | None = None
    start = 0
    for line in text.splitlines(True):
        if not line.startswith("|"):
            titles = None
        elif titles is None:
            titles = line.split("|")
        else:
            at = start
            for i, cell in enumerate(line.split("|")):
                if i < len(titles) and _HEADER.search(titles[i]):
                    yield from ((at + m.start(), at + m.end()) for m in re.finditer(rf"(?<![\w.]){NUMBER}(?!\w)", cell))
                at += len(cell) + 1
        start += len(line)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z][\w+]*", text.lower()))


def _plain(text: str) -> str:
    return " ".join(text.split())


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
