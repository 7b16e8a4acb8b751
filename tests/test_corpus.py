"""The pretraining corpus: what it may not show, what it is made of, and that it can be continued."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.corpus import SUITES, block_tasks, leaks
from eval.pool import Pool
from eval.positions import EVALUATED, PLATE_OFFSET, grid, held_out_positions, is_evaluation_layout
from videopolicy.camera import Camera

MANIFEST = Path(__file__).parent.parent / "weights/svd-tiny/corpus.jsonl"
SIZE = 112


def arrangement(bowl: np.ndarray, plate: np.ndarray) -> dict[str, np.ndarray]:
    return {"akita_black_bowl_1": np.array([*bowl, 0.0]), "plate_1": np.array([*plate, 0.0])}


@pytest.mark.parametrize("half", ["left", "right"])
def test_every_evaluated_arrangement_is_recognised(half: str) -> None:
    positions = [*grid(half), *held_out_positions("seen" if half == "left" else "unseen", 100, seed=1000)]
    assert all(is_evaluation_layout(arrangement(xy, xy + PLATE_OFFSET)) for xy in positions)
    jitter = np.random.default_rng(0).uniform(-0.03, 0.03, (len(positions), 2))
    moved = zip(positions, jitter, strict=True)
    assert all(is_evaluation_layout(arrangement(xy, xy + PLATE_OFFSET + j)) for xy, j in moved)


def test_other_arrangements_are_none() -> None:
    bowl = np.array([-0.2, 0.1])
    assert not is_evaluation_layout(arrangement(bowl, bowl - PLATE_OFFSET))
    assert not is_evaluation_layout(arrangement(bowl, bowl + np.array([0.0, 0.11])))
    assert not is_evaluation_layout(arrangement(np.array([0.1, 0.1]), np.array([0.21, 0.1])))
    assert not is_evaluation_layout({"plate_1": np.zeros(3), "ketchup_1": np.array([-0.11, 0.0, 0.0])})


def test_nothing_evaluated_was_in_the_shipped_corpus() -> None:
    """The manifest beside the weights: many tasks of every suite, and neither the task nor its arrangement."""
    extras = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
    assert len(extras) > 200
    assert leaks(extras) == []
    assert {e["task"].split("/")[0] for e in extras} == set(SUITES)
    assert len({e["task"] for e in extras}) > 20
    assert all(e["objects"] for e in extras)
    planted = [{**extras[0], "task": EVALUATED}]
    evaluated = {"akita_black_bowl_2": [-0.2, 0.2, 0], "plate_1": [-0.09, 0.2, 0]}
    planted += [{**extras[0], "objects": evaluated}, {**extras[0], "end": evaluated}]
    planted += [{**extras[0], "motion": "pick akita_black_bowl_1", "onto": "plate_1"}]
    assert leaks([*extras, *planted]) == planted


def test_blocks_draw_from_every_suite_but_never_the_evaluated_task() -> None:
    names = {suite: [f"{suite}/{i}" for i in range(3)] for suite in SUITES}
    names["libero_spatial"][0] = EVALUATED
    tasks = block_tasks(names, 24, seed=0)
    assert tasks[:4] != sorted(tasks[:4]) or len({t.split("/")[0] for t in tasks[:4]}) == 4
    assert EVALUATED not in tasks
    assert {t for t in tasks} == {t for ts in names.values() for t in ts} - {EVALUATED}
    assert block_tasks(names, 10, seed=0) == tasks[:10]
    assert block_tasks(names, 24, seed=1) != tasks


@pytest.fixture(scope="module")
def block() -> dict:
    """One block: two episodes of a floor scene, each from two cameras; and its second episode recorded alone."""
    job = {"kind": "clips", "task": "libero_object/pick_up_the_milk_and_place_it_in_the_basket", "image_size": SIZE}
    job |= {"fps": 4, "seed": 0, "n_views": 2, "n_episodes": 2, "block": 3, "first": 0}
    with Pool(1) as pool:
        results = dict(pool.run([job, {**job, "first": 1}]))
    return {"whole": results[0]["views"], "rest": results[1]["views"], "markers": results[0]["markers"]}


def test_a_block_that_was_cut_short_goes_on_where_it_stopped(block: dict) -> None:
    """An episode depends on its own number alone: recorded alone it is the same, picture for picture."""
    assert [v["extra"]["episode"] for v in block["whole"]] == [0, 0, 1, 1]
    assert [v["extra"]["view"] for v in block["whole"]] == [0, 1, 0, 1]
    for one, other in zip(block["whole"][2:], block["rest"], strict=True):
        np.testing.assert_array_equal(one["state"], other["state"])
        np.testing.assert_array_equal(one["frames"], other["frames"])
        assert one["extra"] == other["extra"]


def test_views_show_the_same_events_from_other_places(block: dict) -> None:
    first, second = block["whole"][:2]
    np.testing.assert_array_equal(first["state"], second["state"])
    assert first["extra"]["camera"] != second["extra"]["camera"]
    assert (first["frames"] != second["frames"]).mean() > 0.3


def test_every_view_has_its_own_calibration(block: dict) -> None:
    """Where the arm moves is where pictures change, in every view by that view's own camera."""
    for view in block["whole"]:
        camera = Camera.from_json(view["extra"]["camera"])
        difference = np.abs(np.diff(view["frames"].astype(float), axis=0)).sum(-1)
        uv = camera.project(view["state"][1:, :3])
        step = np.linalg.norm(np.diff(view["state"][:, :3], axis=0), axis=-1)
        v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        use = (step > 0.03) & camera.contains(uv)
        assert use.sum() > 5
        near = [
            d[np.hypot(u - p[0], v - p[1]) < 25].sum() / d.sum() for d, p in zip(difference[use], uv[use], strict=True)
        ]
        area = np.pi * 25**2 / SIZE**2
        assert np.mean(near) > 1.8 * area


def test_clips_say_what_they_show(block: dict) -> None:
    for view in block["whole"]:
        extra = view["extra"]
        assert set(extra["end"]) == set(extra["objects"])
        assert extra["motion"] == "reach" or extra["motion"].removeprefix("pick ") in extra["objects"]
        assert len(view["frames"]) == len(view["state"]) == len(view["action"]) > 7
        assert np.isfinite(view["state"]).all()
