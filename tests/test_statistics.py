"""Intervals and tests against their definitions, and what episodes in groups do to them."""

import numpy as np
import pytest

from eval.statistics import bootstrap95, paired, wilson95, wilson95_grouped


@pytest.mark.parametrize(("k", "n"), [(1, 40), (20, 40), (33, 100)])
def test_episodes_by_themselves_have_wilsons_interval(k: int, n: int) -> None:
    assert wilson95_grouped([i < k for i in range(n)], list(range(n))) == wilson95(k, n)


def test_copies_say_as_little_as_what_they_are_copies_of() -> None:
    placed, groups = np.repeat(np.arange(20) < 13, 5).tolist(), np.repeat(np.arange(20), 5).tolist()
    np.testing.assert_allclose(wilson95_grouped(placed, groups), wilson95(13, 20), atol=0.6)
    for every in (0, 1):
        assert wilson95_grouped([bool(every)] * 100, groups) == wilson95(20 * every, 20)


def test_groups_that_share_nothing_lose_little() -> None:
    """Members drawn independently: about as narrow as Wilson's, and never narrower, even where groups are all alike."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5).tolist()
    for _ in range(20):
        placed = (rng.uniform(size=200) < 0.7).tolist()
        low, high = wilson95_grouped(placed, groups)
        plain = wilson95(sum(placed), 200)
        assert low <= plain[0] <= plain[1] <= high
        assert high - low < 1.4 * (plain[1] - plain[0])
    assert wilson95_grouped([i % 2 == 0 for i in range(40)], [i // 2 for i in range(40)]) == wilson95(20, 40)


def test_grouped_intervals_cover() -> None:
    """Positions that a policy can do or cannot: the interval holds the true rate about as often as it says."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 5).tolist()
    held: dict[str, list[bool]] = {"grouped": [], "plain": []}
    for _ in range(300):
        chance = np.repeat(rng.choice([0.05, 0.95], 20, p=[0.3, 0.7]), 5)
        placed = (rng.uniform(size=100) < chance).tolist()
        for name, (low, high) in {
            "grouped": wilson95_grouped(placed, groups),
            "plain": wilson95(sum(placed), 100),
        }.items():
            held[name].append(low <= 68 <= high)
    assert np.mean(held["grouped"]) > 0.9
    assert np.mean(held["plain"]) < 0.75


def test_intervals_resample_episodes() -> None:
    """A hundred clips of one episode say as much as one clip of it."""
    change = np.array([-1.0] * 100 + [1.0])
    low, high = bootstrap95(change, np.array([0] * 100 + [1]))
    assert (low, high) == (-1.0, 1.0)
    assert bootstrap95(np.full(8, -2.0), np.arange(8)) == [-2.0, -2.0]


def test_paired_comparison() -> None:
    a = {(i,): "place" if i < 9 else "miss" for i in range(12)}
    b = {(i,): "place" if i == 0 else "grasp" for i in range(12)}
    assert paired(a, b) == {"n": 12, "only_first": 8, "only_second": 0, "p": pytest.approx(2 / 2**8)}
    assert paired(a, {(99,): "place"}) is None
    assert paired(a, a) == {"n": 12, "only_first": 0, "only_second": 0, "p": 1.0}
