"""LeRobot's ten statistics per feature: of an episode, and of a dataset from those of its episodes."""

import numpy as np

STATS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


def statistics(values: np.ndarray) -> dict:
    """LeRobot's ten statistics over the first axis."""
    quantiles = {f"q{q:02d}": np.quantile(values, q / 100, axis=0).tolist() for q in (1, 10, 50, 90, 99)}
    moments = {name: getattr(values, name)(0).tolist() for name in ("min", "max", "mean", "std")}
    return {**moments, "count": [len(values)], **quantiles}


def image_statistics(frames: np.ndarray) -> dict:
    """The same per channel, shaped (3, 1, 1) in [0, 1]; every 8th pixel of each frame is enough."""
    stats = statistics(frames[:, ::8, ::8].reshape(-1, 3) / 255.0)
    return {k: v if k == "count" else [[[x]] for x in v] for k, v in stats.items()} | {"count": [len(frames)]}


def merge(parts: list[dict]) -> dict:
    """Statistics of a whole from those of its parts; quantiles are averaged by count, as LeRobot does."""
    n = np.array([p["count"][0] for p in parts], float)
    stack = {k: np.array([p[k] for p in parts]) for k in STATS}
    weight = (n / n.sum()).reshape(-1, *[1] * (stack["mean"].ndim - 1))
    mean = (weight * stack["mean"]).sum(0)
    variance = (weight * (stack["std"] ** 2 + (stack["mean"] - mean) ** 2)).sum(0)
    merged = {"min": stack["min"].min(0), "max": stack["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    merged |= {k: (weight * stack[k]).sum(0) for k in STATS if k.startswith("q")}
    return {**{k: v.tolist() for k, v in merged.items()}, "count": [int(n.sum())]}
