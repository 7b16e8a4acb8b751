"""The axes: what they train on and what they test never overlap, and are the same every time."""

import numpy as np
import pytest
from builders import agentview

from eval.grid import GridConfig, ViewsConfig
from eval.lifting import grid_points
from eval.orbit import AWAY, GAZE, RADIUS, orbit
from eval.positions import (
    PLATE_XY,
    beyond_boundary,
    cells,
    grid,
    held_out_positions,
    stratified,
    training_cells,
    validation_cells,
)
from eval.suites import AXES, JITTER, TRAINED_ON, trials
from videopolicy.data.splits import Select, corner_cells, selected
from videopolicy.errors import BadInput
from videopolicy.lifting import sensitivity

EXTRAS = [spot.extra | {"bowl_xy": spot.bowl_xy} for spot in GridConfig("all", 256).spots(0)]
VIEWS = [spot.extra | {"bowl_xy": spot.bowl_xy} for spot in ViewsConfig(10).spots(0)]
CELL = np.array([0.026, 0.04])


def positions(select: Select) -> np.ndarray:
    extras = VIEWS if select == "hemisphere" else EXTRAS
    return np.array([extras[i]["bowl_xy"] for i in selected(select, extras, len(extras), "here")])


def test_positions_are_held_out() -> None:
    """Tests lie between training cells, at least a quarter of a cell from all of them; each half on its own side."""
    trained = np.stack([c.bowl_xy for c in training_cells("left", 96, seed=0)])
    assert len(np.unique(trained, axis=0)) == 96
    assert (trained[:, 1] < 0).all()
    assert training_cells("left", 96, seed=0)[:20] == training_cells("left", 20, seed=0)
    for split, sign in (("seen", -1), ("unseen", 1)):
        tested = held_out_positions(split, 40, seed=1000)
        assert (np.sign(tested[:, 1]) == sign).all()
        offset = np.abs(tested[:, None] - grid("left" if split == "seen" else "right")[None]) / CELL
        assert offset.max(-1).min() > 0.2
    assert len(validation_cells(trained)) == 128 - 96
    assert beyond_boundary(np.array([0.0, -0.1])) == 0
    assert beyond_boundary(np.array([0.0, 0.1])) == pytest.approx(0.12)
    with pytest.raises(BadInput, match="n_positions is 129; allowed: 1 to 128, the cells of part left"):
        training_cells("left", 129, seed=0)
    with pytest.raises(BadInput, match="part is 'top'"):
        cells("top")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("select", "n"),
    [
        ("all", 256),
        ("left", 128),
        ("near", 128),
        ("corners_32", 32),
        ("dense_64", 64),
        ("outer_left", 64),
        ("inner_left", 64),
    ],
)
def test_training_sets_have_their_size(select: Select, n: int) -> None:
    assert len(selected(select, EXTRAS, 256, "here")) == n


def test_training_sets_lie_where_their_names_say() -> None:
    assert (positions("left")[:, 1] < 0).all()
    assert positions("near")[:, 0].max() < np.median(grid("all")[:, 0])
    assert {(row // 4, col // 4) for row, col in corner_cells()} == {(0, 0), (0, 3), (3, 0), (3, 3)}
    assert len(positions("hemisphere")) == 320
    dense = positions("dense_64")
    assert len(np.unique(dense[:, 0])) == len(np.unique(dense[:, 1])) == 8
    np.testing.assert_allclose([dense.min(0), dense.max(0)], [grid("all").min(0), grid("all").max(0)])


def test_a_dataset_that_does_not_say_where_refuses_to_be_split() -> None:
    with pytest.raises(BadInput, match=r"data.select is 'left', but here/meta.* does not give row and col"):
        selected("left", [{"cell": 0}], 1, "here")
    with pytest.raises(BadInput, match=r"data.select 'near' leaves none of the 1 episodes of here"):
        selected("near", [{"row": 12, "col": 0}], 1, "here")


def test_axes_have_their_numbers_of_episodes() -> None:
    n = {axis: len(trials(axis, None, 1000, positions(TRAINED_ON[axis]), "both")) for axis in AXES}
    assert n == dict.fromkeys(AXES, 100) | {"viewpoint": 192, "hemisphere": 112}


MOVED = ("left_right", "near_far", "corners_32", "dense_64", "inner_left", "outer_left", "few_shot")


@pytest.mark.parametrize("axis", MOVED)
def test_axes_test_where_they_did_not_train(axis: str) -> None:
    trained = positions(TRAINED_ON[axis])
    found = trials(axis, None, 1000, trained, "both")
    for trial in found:
        nearest = np.linalg.norm(trained - trial.bowl_xy, axis=-1).min()
        assert nearest == pytest.approx(trial.distance)
        assert nearest > 0.005
    rounds = np.array([t.bowl_xy for t in found]).reshape(5, 20, 2)  # five episodes at each of 20 positions
    spread = np.linalg.norm(rounds - rounds.mean(0), axis=-1)
    assert spread.min() > 0
    assert spread.max() < 2 * JITTER
    if axis == "left_right":
        assert rounds[..., 1].min() > 0
        assert len(np.unique(rounds.mean(0)[:, 1].round(1))) >= 3  # near the boundary and far from it
    if axis == "near_far":
        assert rounds[..., 0].min() > np.median(grid("all")[:, 0])


def test_trials_are_the_same_every_time_and_for_any_number_of_them() -> None:
    trained = positions("left")
    for n in (None, 7):
        again = trials("left_right", n, 1000, trained, "both")
        for a, b in zip(again, trials("left_right", None, 1000, trained, "both"), strict=False):
            assert a.seed == b.seed
            np.testing.assert_array_equal(a.bowl_xy, b.bowl_xy)
    other = trials("left_right", None, 1001, trained, "both")[0]
    assert not np.allclose(other.bowl_xy, again[0].bowl_xy)


def test_groups_are_what_is_not_independent() -> None:
    n = {axis: len({t.group for t in trials(axis, None, 1000, positions(TRAINED_ON[axis]), "both")}) for axis in AXES}
    assert n == dict.fromkeys(AXES, 20) | {"viewpoint": 192, "hemisphere": 112, "distractors": 50}
    for group in range(20):
        its = [t.bowl_xy for t in trials("left_right", None, 1000, positions("left"), "both") if t.group == group]
        assert len(its) == 5
        assert np.ptp(its, axis=0).max() <= 2 * JITTER


def test_cameras_of_an_axis() -> None:
    trained = positions("hemisphere")
    views = {t.view for t in trials("hemisphere", None, 0, trained, "both")}
    assert views == {(t, float(p)) for t in np.linspace(0, 25, 8).round(2)[1:] for p in (180, 225, 270, 315)}
    assert not views & {spot.view for spot in ViewsConfig(1).spots(0) if spot.extra["phi"] < 180}
    assert len({t.view for t in trials("viewpoint", None, 0, positions("dense_64"), "both")}) == 64
    for axis in ("viewpoint", "hemisphere"):  # the oracle's ten and plain control's forty are no easier ones
        found = [t.view[0] for t in trials(axis, None, 1000, positions(TRAINED_ON[axis]), "both") if t.view]
        for n in (10, 40):
            assert len(set(found[:n])) >= 5
            assert abs(np.mean(found[:n]) - np.mean(found)) < 3


def test_distractors_use_every_fixed_state_twice() -> None:
    found = trials("distractors", None, 0, positions("dense_64"), "both")
    assert sorted(t.init_state for t in found if t.init_state is not None) == sorted([*range(50), *range(50)])
    assert {t.scene for t in found} == {"full"}
    assert {t.scene for t in trials("distractors_one_bowl", 3, 0, positions("dense_64"), "both")} == {"no_second_bowl"}


def test_the_bowl_alone_can_move() -> None:
    found = trials("left_right", None, 1000, positions("left"), "bowl")
    assert 0 < len(found) < 100  # those too near to the plate are left out
    for trial in found:
        np.testing.assert_array_equal(trial.plate_xy, PLATE_XY)
        assert np.linalg.norm(trial.bowl_xy - PLATE_XY) > 0.15
    halves = [trials("unseen", 40, 1000, positions("left"), shift) for shift in ("both", "bowl")]
    assert [t.plate_xy is None for t in halves[0]] == [True] * 40
    assert {tuple(t.plate_xy) for t in halves[1]} == {tuple(PLATE_XY)}
    assert len(halves[1]) == 40
    with pytest.raises(BadInput, match="shift is 'bowl', but distractors has LIBERO's own positions"):
        trials("distractors", None, 0, positions("dense_64"), "bowl")
    spots = GridConfig("all", 256, "bowl").spots(0)
    assert 200 < len(spots) < 256
    assert all(spot.plate_xy is PLATE_XY for spot in spots)


def test_more_test_positions_than_there_are_is_an_error() -> None:
    with pytest.raises(BadInput, match="300 test positions; allowed: at most 105 in part right"):
        stratified("right", 300, 0)


def test_orbit_starts_at_liberos_camera_and_keeps_its_distance() -> None:
    position, quaternion = orbit(0, 90)
    np.testing.assert_allclose(position, [0.6586, 0, 0.7104], atol=1e-3)
    np.testing.assert_allclose(np.abs(quaternion), [0.638, 0.305, 0.305, 0.638], atol=1e-3)
    away = AWAY / np.linalg.norm(AWAY)
    for theta in (3.57, 25.0):
        for phi in range(0, 360, 45):
            offset = orbit(theta, phi)[0] - GAZE
            assert np.linalg.norm(offset) == pytest.approx(RADIUS)
            assert np.degrees(np.arccos(offset @ away / RADIUS)) == pytest.approx(theta)
    assert orbit(25, 0)[0][2] > position[2] > orbit(25, 180)[0][2]
    assert orbit(25, 90)[0][1] < 0 < orbit(25, 270)[0][1]
    with pytest.raises(BadInput, match=r"view \(38, 180\) puts the camera 0.0\d m above the table"):
        orbit(38, 180)


def test_sensitivity_is_what_the_geometry_says() -> None:
    """One pixel is depth over focal length, seen obliquely; a bin moves a point along its ray."""
    view = agentview()
    rows = {row["cause"]: row for row in sensitivity(view, grid_points(), 0.01)}
    lifted = view.lift(np.array([[100.0, 100.0], [101.0, 100.0]]), np.array([0.02, 0.02]))
    pixel = 1000 * float(np.linalg.norm(lifted[1] - lifted[0]))
    assert rows["one pixel to the right"]["mean_mm"] == pytest.approx(pixel, rel=0.3)
    assert rows["one pixel down"]["mean_mm"] > rows["one pixel to the right"]["mean_mm"]
    assert rows["one height bin (10.0 mm)"]["mean_mm"] > 10
    assert rows["camera pitched by 1 degree"]["max_mm"] > 10
