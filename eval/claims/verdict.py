"""Whether a measurement agrees with a claim: by rule, from counts alone.

Intervals of rates are Wilson's of 95 %, in per cent, rounded to tenths as they are printed; of sums and differences of
rates those of Newcombe (1998, method 10), from the rates' own; of ratios the outer ends of both rates'. The manuscripts
print whole numbers: a value stands for all that is rounded to it, a range for all between its ends.

rate         their value lies in our interval; where their n is known, so that theirs has an interval too: that of the
             difference between both holds zero. Several results are one, their episodes together.
each         the same for each of several results and a range
keeps        none of several results lies, with its whole interval, below their value
difference   the interval of our difference holds theirs
differences  the same for each of several pairs of results and a range
ratio        the interval of our ratio holds theirs
above        first result above second: their intervals are apart, and in this order. Where they overlap nothing was
             shown: not yet measured, by too few episodes
level        neither is above the other: their intervals overlap
at_most      a time that is not longer than theirs
setting      a configuration that has their number
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.claims.results import Result
from videopolicy.rates import wilson95

Rule = Literal["rate", "each", "keeps", "difference", "differences", "ratio", "above", "level", "at_most", "setting"]
Of = Literal["placed", "grasped", "lifted", "weighted"]  # lifted: placed or grasped; weighted: placed + half of grasped
Word = Literal["agrees", "disagrees", "not yet measured", "not measurable here"]
DASH = "\N{EN DASH}"  # of intervals
ORDERINGS = ("above", "level")  # which a stand-in may decide


@dataclass(frozen=True)
class Estimate:
    """A value and its interval, in per cent, points, or as a ratio."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f}{DASH}{self.high:.1f})"


@dataclass(frozen=True)
class Verdict:
    word: Word
    why: str = ""

    def __str__(self) -> str:
        return self.word + (": " if self.word.startswith("not") else ", ") * bool(self.why) + self.why


def rounding(printed: float) -> float:
    """By how much a value may be off that was rounded to what is printed: half of its last digit."""
    return 0.5 * 10.0 ** -len(f"{printed:g}".partition(".")[2])


def rate(k: int, n: int) -> Estimate:
    return Estimate(100 * k / n, *wilson95(k, n))


def combined(terms: Sequence[tuple[float, Estimate]]) -> Estimate:
    """A weighted sum of rates and its interval, each rate's interval taken as independent of the others'."""
    value = sum(c * e.value for c, e in terms)
    below = sum((c * (e.value - (e.low if c > 0 else e.high))) ** 2 for c, e in terms) ** 0.5
    above = sum((c * (e.value - (e.high if c > 0 else e.low))) ** 2 for c, e in terms) ** 0.5
    return Estimate(value, value - below, value + above)


def difference(first: Estimate, second: Estimate) -> Estimate:
    return combined([(1, first), (-1, second)])


def ratio(first: Estimate, second: Estimate) -> Estimate:
    """Without an upper end where the second's interval begins at nothing."""
    quotient = first.value / second.value if second.value else float("inf")
    return Estimate(quotient, first.low / second.high, first.high / second.low if second.low else float("inf"))


def estimate(results: Sequence[Result], of: Of = "placed") -> Estimate:
    """Of all their episodes together."""
    n, placed = sum(r.n for r in results), sum(r.placed for r in results)
    grasped = sum(r.grasped or 0 for r in results)
    if of == "weighted":
        return combined([(1, rate(placed, n)), (0.5, rate(grasped, n))])
    return rate({"placed": placed, "grasped": grasped, "lifted": placed + grasped}[of], n)


def against_value(ours: Estimate, low: float, high: float, n: int | None = None) -> Verdict:
    """Ours against a value, low and high the same, or a range; with n, against a rate of n episodes."""
    if n is None:
        meets = ours.low <= high + rounding(high) and low - rounding(low) <= ours.high
    else:
        apart = difference(ours, rate(round(low * n / 100), n))
        meets = apart.low <= 0 <= apart.high
    return Verdict("agrees") if meets else Verdict("disagrees", "higher" if ours.value > high else "lower")


def against_values(ours: Sequence[Estimate], low: float, high: float) -> Verdict:
    """Each of ours against one range: the first that disagrees says which way."""
    each = [against_value(e, low, high) for e in ours]
    apart = [v for v in each if v.word == "disagrees"]
    return Verdict("disagrees", f"{len(apart)} of {len(each)} {apart[0].why}") if apart else Verdict("agrees")


def ordered(first: Estimate, second: Estimate) -> Verdict:
    if first.low > second.high:
        return Verdict("agrees")
    if second.low > first.high:
        return Verdict("disagrees", "the other way round")
    return Verdict("not yet measured", "the intervals overlap")


def level(first: Estimate, second: Estimate) -> Verdict:
    verdict = ordered(first, second)
    if verdict.word == "not yet measured":
        return Verdict("agrees")
    return Verdict("disagrees", "higher" if first.value > second.value else "lower")


def keeps(ours: Sequence[Estimate], value: float) -> Verdict:
    lower = sum(e.high < value - rounding(value) for e in ours)
    return Verdict("disagrees", f"{lower} of {len(ours)} lower") if lower else Verdict("agrees")
