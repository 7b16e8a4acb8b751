"""Intervals and tests against their definitions, and what episodes in groups do to them."""

import itertools

import numpy as np
import pytest

from eval.statistics import bootstrap95, paired, sign_flips, wilson95_grouped
from videopolicy.rates import wilson95


@pytest.mark.parametrize(("k", "n"), [(1, 40), (20, 40), (33, 100)])
def test_episodes_by_themselves_have_wilsons_interval(k: int, n: int) -> None:
    assert wilson95_grouped([i < k for i in range(n)], list(range(n))) == wilson95(k, n)


def test_copies_say_as_little_as_what_they_are_copies_of() -> None:
    placed, groups = np.repeat(np.arange(20) < 13, 5).tolist(), np.repeat(np.arange(20), 5).tolist()
    np.testing.assert_allclose(wilson95_grouped(placed, groups), wilson95(13, 20), atol=0.6)
    for every in (0, 1):
        assert wilson95_grouped([bool(every)] * 100, groups) == wilson95(20 * every, 20)
    low, high = wilson95_grouped([True] * 3 + [False] * 2, [7] * 5)  # as of a single episode
    assert high - low > 80


def test_one_more_success_hardly_lowers_the_interval() -> None:
    """Successes spread over groups say that groups are not copies, which narrows it; from all to all but one, too."""
    groups = list(range(20)) * 5
    ends = np.array([wilson95_grouped([i >= k for i in range(100)], groups) for k in range(101)])
    assert np.abs(np.diff(ends, axis=0)).max() < 5
    assert (np.diff(ends[10:90], axis=0) < 0.5).all()


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
    even = wilson95_grouped([i % 2 == 0 for i in range(40)], [i // 2 for i in range(40)])
    np.testing.assert_allclose(even, wilson95(20, 40), atol=0.5)


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
    alone = {(i,): i for i in range(12)}
    p = pytest.approx(2 / 2**8)
    assert paired(a, b, alone) == {"n": 12, "only_first": 8, "only_second": 0, "p": p, "p_grouped": p}
    assert paired(a, {(99,): "place"}, alone) is None
    assert paired(a, a, alone) == {"n": 12, "only_first": 0, "only_second": 0, "p": 1.0, "p_grouped": 1.0}
    twos = {(i,): (i + 1) // 2 for i in range(12)}  # the eight make four pairs
    result = paired(a, b, twos)
    assert result is not None
    assert result["p_grouped"] == pytest.approx(2 / 2**4)
    assert result["p"] == p


def test_sign_flips_against_all_of_them() -> None:
    rng = np.random.default_rng(0)
    for leads in ([3, -1, 2, 0, 5], [1, 1, -1], [0, 0], rng.integers(-5, 6, 10).tolist()):
        flips = np.array(list(itertools.product([-1, 1], repeat=len(leads)))) * leads
        expected = np.mean(np.abs(flips.sum(1)) >= abs(sum(leads)))
        assert sign_flips(leads) == pytest.approx(expected)


def test_groups_keep_the_level_of_the_test() -> None:
    """Two policies that are as good, each doing a position or not: rejected as often as it says, by groups alone."""
    rng = np.random.default_rng(2)
    groups = {(i,): i // 5 for i in range(100)}
    rejected: dict[str, list[bool]] = {"p": [], "p_grouped": []}
    for _ in range(300):
        done = np.repeat(rng.uniform(size=(2, 20)) < 0.7, 5, axis=1)
        a, b = ({(i,): "place" if x else "miss" for i, x in enumerate(its)} for its in done)
        result = paired(a, b, groups)
        assert result is not None
        for name, values in rejected.items():
            values.append(result[name] < 0.05)
    assert np.mean(rejected["p_grouped"]) < 0.07
    assert np.mean(rejected["p"]) > 0.2
