"""Success rates with their n and intervals."""

from scipy.stats import binomtest


def wilson95(k: int, n: int) -> tuple[float, float]:
    """Wilson 95 % interval of k successes in n, in per cent."""
    interval = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return round(100 * interval.low, 1), round(100 * interval.high, 1)


def rates(outcomes: list[str]) -> dict:
    """n, and in per cent: placed (P), grasped but not placed (G), weighted P + 0.5 G, and P's Wilson interval."""
    n = len(outcomes)
    place, grasp = (sum(o == name for o in outcomes) for name in ("place", "grasp"))
    return {
        "n": n,
        "place": round(100 * place / n, 1),
        "grasp": round(100 * grasp / n, 1),
        "weighted": round(100 * (place + 0.5 * grasp) / n, 1),
        "wilson95": list(wilson95(place, n)),
    }


def table(rows: list[dict], names: dict[str, int]) -> str:
    """A success table as text; `names` are the columns before the numbers, with their widths."""
    title = "".join(f"{name:<{width}} " for name, width in names.items())
    lines = [f"{title}{'n':>4} {'place %':>8} {'grasp %':>8} {'weighted':>9}   Wilson 95 % of place"]
    for r in rows:
        low, high = r["wilson95"]
        whose = "".join(f"{r[name]:<{width}} " for name, width in names.items())
        numbers = f"{r['n']:>4} {r['place']:>8.1f} {r['grasp']:>8.1f} {r['weighted']:>9.1f}"
        lines.append(f"{whose}{numbers}   {low:.1f} to {high:.1f}")
    return "\n".join(lines)


def paired(first: dict[tuple, str], second: dict[tuple, str]) -> dict | None:
    """McNemar's exact test on the episodes that both policies ran; None where they share none.

    Arguments map an episode to its outcome. Only episodes that one placed and the other did not say which is better:
    under the null hypothesis each of the two is as likely.
    """
    shared = first.keys() & second.keys()
    if not shared:
        return None
    won, lost = (sum(a[key] == "place" != b[key] for key in shared) for a, b in ((first, second), (second, first)))
    p = float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
    return {"n": len(shared), "only_first": won, "only_second": lost, "p": p}
