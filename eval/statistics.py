"""What is made of success rates: intervals of groups, paired tests, curves."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest, norm

from videopolicy.names import label
from videopolicy.rates import rates

N_RESAMPLES = 2000


def wilson95_grouped(placed: Sequence[bool], groups: Sequence[int]) -> tuple[float, float]:
    """Wilson 95 % interval, in per cent, of a rate whose episodes come in groups that tend to end alike.

    Takes as n the number of independent episodes that would vary as much (Kish's design effect, from the variance
    between groups; at least 1). Only groups that show the rarer outcome say how alike groups are: one more is counted
    whose members are copies, so that where every episode ends the same way n is the number of groups.
    """
    outcome, number = np.asarray(placed, float), np.asarray(groups)
    members = [outcome[number == g] for g in np.unique(number)]
    n, m, rate = len(outcome), len(members), float(outcome.mean())
    effect, known = 1.0, 0
    if 0 < rate < 1 and m > 1:
        between = sum((float(x.sum()) - rate * len(x)) ** 2 for x in members) * m / (m - 1)
        effect = max(1.0, float(between) * (n - 1) / (rate * (1 - rate) * n**2))
        known = min(sum(bool(x.any()) for x in members), sum(not x.all() for x in members))
    n_effective = n / ((known * effect + n / m) / (known + 1))
    z = float(norm.ppf(0.975))
    middle = (rate + z**2 / (2 * n_effective)) / (1 + z**2 / n_effective)
    half = z / (1 + z**2 / n_effective) * (rate * (1 - rate) / n_effective + z**2 / (4 * n_effective**2)) ** 0.5
    return round(100 * max(0.0, middle - half), 1), round(100 * min(1.0, middle + half), 1)


def rates_of(records: Sequence[dict]) -> dict:
    """Rates of episodes with both intervals, as the reports have them."""
    placed, groups = [r["outcome"] == "place" for r in records], [r["group"] for r in records]
    return {**rates([r["outcome"] for r in records]), "wilson95_grouped": list(wilson95_grouped(placed, groups))}


def bootstrap95(values: Float[np.ndarray, " n"], groups: np.ndarray, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of a mean, whole groups drawn: members of one are no independent evidence."""
    members = [values[groups == g] for g in np.unique(groups)]
    sums, counts = (np.array([f(g) for g in members]) for f in (np.nansum, lambda g: np.isfinite(g).sum()))
    draws = np.random.default_rng(seed).integers(len(members), size=(N_RESAMPLES, len(members)))
    return np.percentile(sums[draws].sum(1) / np.maximum(counts[draws].sum(1), 1), [2.5, 97.5]).tolist()


def table(rows: list[dict], names: dict[str, int]) -> str:
    """A success table as text; `names` are the columns before the numbers, with their least widths."""
    words = [{name: label(r[name]) if name == "policy" else str(r[name]) for name in names} for r in rows]
    names = {name: max([width, *(len(row[name]) for row in words)]) for name, width in names.items()}
    title = "".join(f"{name:<{width}} " for name, width in names.items())
    lines = [f"{title}{'n':>4} {'place %':>8} {'grasp %':>8} {'weighted':>9}   Wilson 95 % of place"]
    for r, row in zip(rows, words, strict=True):
        low, high = r["wilson95"]
        whose = "".join(f"{row[name]:<{width}} " for name, width in names.items())
        numbers = f"{r['n']:>4} {r['place']:>8.1f} {r['grasp']:>8.1f} {r['weighted']:>9.1f}"
        lines.append(f"{whose}{numbers}   {low:.1f} to {high:.1f}")
    return "\n".join(lines)


def paired(first: dict[tuple, str], second: dict[tuple, str], groups: dict[tuple, int]) -> dict | None:
    """McNemar's exact test on the episodes that both policies ran; None where they share none.

    Arguments map an episode to its outcome, and to its group. Only episodes that one placed and the other did not say
    which is better: under the null hypothesis each of the two is as likely. `p` takes episodes as independent;
    `p_grouped` only their groups, whose wins less losses change sign together. Where every episode is a group of its
    own the two are the same test.
    """
    shared = first.keys() & second.keys()
    if not shared:
        return None
    ahead = {key: (first[key] == "place") - (second[key] == "place") for key in shared}
    won, lost = (sum(a == sign for a in ahead.values()) for sign in (1, -1))
    p = float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
    leads: dict[int, int] = {}
    for key, a in ahead.items():
        leads[groups[key]] = leads.get(groups[key], 0) + a
    return {"n": len(shared), "only_first": won, "only_second": lost, "p": p, "p_grouped": sign_flips(leads.values())}


def sign_flips(leads: Collection[int]) -> float:
    """Exact two-sided p of a sum of whole numbers, each of which might as well have had the other sign."""
    chances = np.ones(1)  # of the sums -total ... total of those taken so far
    for lead in filter(None, leads):
        step = np.zeros(2 * abs(lead) + 1)
        step[[0, -1]] += 0.5
        chances = np.convolve(chances, step)
    sums = np.arange(len(chances)) - len(chances) // 2
    return float(min(1.0, chances[np.abs(sums) >= abs(sum(leads))].sum()))
