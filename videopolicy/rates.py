"""Success rates with their n and intervals."""

from scipy.stats import binomtest


def wilson95(k: int, n: int, decimals: int = 1) -> tuple[float, float]:
    """Wilson 95 % interval of k successes in n, in per cent."""
    interval = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return round(100 * interval.low, decimals), round(100 * interval.high, decimals)


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
