"""Names of many tensors in few words."""

from collections import Counter
from collections.abc import Iterable


def parts(names: Iterable[str]) -> str:
    """How many there are of each first two parts of the names."""
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{part} ({n})" for part, n in sorted(counts.items())) or "nothing"
