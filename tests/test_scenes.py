"""Where the twin's things stand: the same again, within reach, and nothing of a test in what is tuned by."""

import io

import numpy as np
from PIL import Image

from robot.twin.hand import path, pick_and_place
from robot.twin.scenes import APART, HIGH, LOW, OTHER_TABLES, by_chance, demonstrated
from robot.twin.tables import PAINTED, SIDE, files


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
        assert tuning.look.table not in ("plain", *OTHER_TABLES["test"])


def test_painted_tables_are_pictures_that_differ() -> None:
    pictures = {name: np.asarray(Image.open(io.BytesIO(file))) for name, file in files().items()}
    assert set(pictures) == {f"{name}.png" for name in PAINTED}
    for name, picture in pictures.items():
        assert picture.shape == (SIDE, SIDE, 3)
        assert picture.std(axis=(0, 1)).min() > 8, name  # no plain colour
    means = [picture.mean(axis=(0, 1)) for picture in pictures.values()]
    assert min(np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]) > 20
