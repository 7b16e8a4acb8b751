"""The other arm: the same task, seen by the same camera, its circles such that nobody can tell whose they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval import collect
from eval.collect import Config
from eval.grid import GridConfig
from videopolicy.config import load
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput

SIZE, N = 112, 2


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The same demonstrations by both arms, in the picture and not."""
    folder, found = tmp_path_factory.mktemp("data"), {}
    for arm in ("Panda", "UR5e"):
        for overlay in ("none", "circle"):
            output = folder / f"{arm}_{overlay}"
            n = N if overlay == "none" else 1  # of pictures without it only the first is looked at
            cfg = Config(output, grid=GridConfig("all", n), arm=arm, overlay=overlay, image_size=SIZE, n_workers=1)
            assert collect.main(cfg)["first_try"] == n
            found[output.name] = Dataset(output)
    return found


def test_the_other_arm_does_the_task(datasets: dict[str, Dataset]) -> None:
    """At the first try, from the same start, to the same waypoints."""
    ur5e, panda = datasets["UR5e_none"], datasets["Panda_none"]
    assert (ur5e.info["robot_type"], panda.info["robot_type"]) == ("ur5e", "panda")
    assert "| robot | ur5e |" in (ur5e.root / "README.md").read_text()
    for e in range(N):
        assert ur5e.extras()[e]["placed"]
        np.testing.assert_array_equal(ur5e.extras()[e]["bowl_xy"], panda.extras()[e]["bowl_xy"])
        n = min(ur5e.length(e), panda.length(e))
        np.testing.assert_allclose(ur5e.action(e)[:n, :3], panda.action(e)[:n, :3], atol=0.02)
        errors = np.linalg.norm(ur5e.state(e)[1:, :3] - ur5e.action(e)[:-1, :3], axis=-1)
        assert np.median(errors) < 0.008
        assert errors.max() < 0.03
        closed = ur5e.state(e)[ur5e.action(e)[:, 3] == 0, 3]
        assert closed[2:].max() < 0.3  # around the rim
        assert ur5e.state(e)[0, 3] > 0.9


def test_it_looks_different_where_it_is_shown_and_the_same_where_it_is_not(datasets: dict[str, Dataset]) -> None:
    first = {name: data.frames(0)[0].astype(int) for name, data in datasets.items()}
    seen = (np.abs(first["UR5e_none"] - first["Panda_none"]).max(-1) > 30).mean()
    circles = (np.abs(first["UR5e_circle"] - first["Panda_circle"]).max(-1) > 30).mean()
    assert seen > 0.05
    assert circles < 0.005
    np.testing.assert_allclose(
        datasets["UR5e_circle"].camera.T_world_cam, datasets["Panda_circle"].camera.T_world_cam, atol=1e-12
    )


def test_arms_are_not_mixed(datasets: dict[str, Dataset]) -> None:
    cfg = Config(datasets["Panda_none"].root, grid=GridConfig("all", N + 1), arm="UR5e", image_size=SIZE, n_workers=1)
    with pytest.raises(BadInput, match=r"Panda_none was recorded with robot_type panda; allowed: .* not ur5e"):
        collect.main(cfg)


@pytest.mark.parametrize("args", [["--kind", "corpus"], ["--suite", "libero_object", "--task", "0"]])
def test_other_tasks_are_done_by_liberos_own(args: list[str], tmp_path: Path) -> None:
    cfg = load(Config, ["--arm", "UR5e", *args])
    with pytest.raises(BadInput, match=r"arm is 'UR5e'; allowed: Panda, or without a suite and with kind grid or"):
        collect.main(replace(cfg, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_arm_that_there_is_not_is_named() -> None:
    with pytest.raises(BadInput, match=r"--arm is 'Sawyer'; allowed: Panda, UR5e"):
        load(Config, ["--arm", "Sawyer"])
