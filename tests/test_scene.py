"""LIBERO itself, in worker processes: the expert's episode, the camera self-test, simulators beside torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.pool import Pool
from eval.positions import grid
from videopolicy.camera import check_markers
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent
SIZE = 112


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def description(pool: Pool) -> dict:
    ((_, value),) = pool.run([{"kind": "describe", "image_size": SIZE}])
    return value


@pytest.fixture(scope="module")
def episodes(pool: Pool) -> list[dict]:
    """The same demonstration twice, with other ones between: a scene is reused."""
    cells = grid("left")[[40, 100, 40]]
    job = {"kind": "collect", "image_size": SIZE, "fps": 4, "plate_xy": None}
    jobs = [{**job, "attempts": [(c, np.zeros(3))]} for c in cells]
    return [value for _, value in sorted(pool.run(jobs), key=lambda r: r[0])]


def test_expert_places_the_bowl(episodes: list[dict]) -> None:
    assert all(e["placed"] for e in episodes)
    for e in episodes:
        assert len(e["frames"]) == len(e["state"]) == len(e["action"])
        assert e["state"][:, 2].min() > 0  # never below the table
        assert set(e["action"][:, 3]) == {0.0, 1.0}
        lowest = e["state"][:, 2].argmin()
        assert e["action"][: lowest - 1, 3].min() == 1.0  # the gripper closes at the bowl, not before


def test_an_episode_does_not_depend_on_those_before_it(episodes: list[dict]) -> None:
    np.testing.assert_array_equal(episodes[0]["state"], episodes[2]["state"])
    np.testing.assert_array_equal(episodes[0]["frames"], episodes[2]["frames"])


def test_commanded_waypoints_are_reached(episodes: list[dict]) -> None:
    for e in episodes:
        error = np.linalg.norm(e["state"][1:, :3] - e["action"][:-1, :3], axis=-1)
        assert np.median(error) < 0.008
        assert error.max() < 0.03


def test_image_is_upright_and_unmirrored(description: dict, episodes: list[dict]) -> None:
    """The gripper, projected by the camera, is where consecutive frames differ most; flipped, it is not."""
    camera = description["camera"]
    difference = np.abs(np.diff(episodes[0]["frames"].astype(float), axis=0)).sum(-1)
    uv = camera.project(episodes[0]["state"][1:, :3])
    moving = np.linalg.norm(np.diff(episodes[0]["state"][:, :3], axis=0), axis=-1) > 0.03
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5

    def share(maps: np.ndarray) -> float:
        near = [
            m[np.hypot(u - p[0], v - p[1]) < 20].sum() / m.sum() for m, p in zip(maps[moving], uv[moving], strict=True)
        ]
        return float(np.mean(near))

    flips = [share(difference[:, ::-1]), share(difference[:, :, ::-1]), share(difference[:, ::-1, ::-1])]
    assert share(difference) > 1.3 * max(flips)


def test_markers_are_where_the_camera_projects_them(description: dict) -> None:
    assert description["errors"].max() < 0.5
    shown, hidden = description["images"]
    with pytest.raises(BadInput, match="upside down"):
        check_markers(description["camera"], description["markers"], shown[::-1], hidden[::-1])
    with pytest.raises(BadInput, match="mirrored"):
        check_markers(description["camera"], description["markers"], shown[:, ::-1], hidden[:, ::-1])


def test_a_wider_picture_holds_the_narrower_one(pool: Pool) -> None:
    """The same pixels in its middle, and what its camera projects is where the picture's own camera says."""
    job = {"kind": "still", "image_size": SIZE, "bowl_xy": np.array([-0.2, -0.1]), "period": 0.25}
    narrow, wide = (value for _, value in sorted(pool.run([{**job, "margin": m} for m in (0, 16)])))
    middle = wide.wide[16:-16, 16:-16].astype(float)
    assert np.abs(middle - narrow.wide).mean() < 0.5
    assert np.abs(np.roll(middle, 1, 0) - narrow.wide).mean() > 2
    np.testing.assert_allclose(narrow.camera.K, wide.camera.K, atol=1e-9)
    assert wide.wide_camera.size == (SIZE + 32, SIZE + 32)
    grasp = wide.plan[wide.grasp]
    np.testing.assert_allclose(grasp[:2], [-0.2, -0.06], atol=0.01)
    np.testing.assert_allclose(wide.wide_camera.project(grasp) - 16, narrow.camera.project(grasp), atol=1e-9)


def test_a_dead_simulator_is_replaced_and_its_job_repeated(pool: Pool) -> None:
    results = pool.run([{"kind": "describe", "image_size": SIZE}] * 2)
    first = next(results)
    pool.workers[0].process.kill()
    assert [first[0], *(number for number, _ in results)] == [0, 1]
    assert pool.n_restarts == 1


def test_an_unreachable_position_is_tried_as_often_as_asked(pool: Pool) -> None:
    attempts = [(np.array([0.35, -0.1]), np.zeros(3))] * 2
    ((_, result),) = pool.run(
        [{"kind": "collect", "image_size": SIZE, "fps": 4, "attempts": attempts, "plate_xy": None}]
    )
    assert not result["placed"]
    assert result["attempts"] == 2


def test_an_exception_in_a_job_is_raised_not_scored(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'attempts'"):
        list(pool.run([{"kind": "collect", "image_size": SIZE}]))


def test_torch_and_simulators_survive_either_order() -> None:
    """Importing triton after a Mesa GL context exists kills a process; ours never share one."""
    look = f"""
    (_, value), = pool.run([{{"kind": "describe", "image_size": {SIZE}}}])
    assert value["images"][0].shape == ({SIZE}, {SIZE}, 3)"""
    code = f"from eval.pool import Pool\nwith Pool(1) as pool:{look}\n    import torch, triton{look}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
