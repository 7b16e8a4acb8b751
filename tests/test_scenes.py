"""Where the twin's things stand: the same again, within reach, and nothing of a test in what is tuned by."""

import numpy as np

from robot.twin.hand import path, pick_and_place
from robot.twin.scenes import APART, HIGH, LOW, by_chance, demonstrated


def test_scenes_are_the_same_again_and_within_reach() -> None:
    assert demonstrated(3) == demonstrated(25)[:3]
    for seed, one in enumerate([*(by_chance(i) for i in range(40)), *demonstrated(25)]):
        for x, y in (one.cup, one.saucer):
            assert LOW[0] <= x <= HIGH[0]
            assert LOW[1] <= y <= HIGH[1]
        assert np.hypot(one.cup[0] - one.saucer[0], one.cup[1] - one.saucer[1]) > APART
        path(pick_and_place(one.cup, one.saucer, np.random.default_rng(seed)), np.array([0.2, 0.0, 0.1]), 0.5)


def test_a_new_environment_is_another_one_and_nothing_moves() -> None:
    for number in range(20):
        one, other = by_chance(number), by_chance(number, "test")
        assert one == by_chance(number)
        assert (other.cup, other.saucer) == (one.cup, one.saucer)
        assert other.look != one.look
        assert other.look.table != "plain"
        tuning = by_chance(number, "tuning")  # nothing of it may be what is tested
        assert tuning.cup != one.cup
        assert tuning.look.table not in ("plain", other.look.table)
