"""Demonstrations without a robot in the picture: none of it is left, it moves as ever, a circle is in its place."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval import collect
from eval.collect import Config
from eval.grid import GridConfig
from videopolicy.config import load
from videopolicy.data import doctor
from videopolicy.data.lerobot import Dataset
from videopolicy.data.overlay import CircleConfig
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent
SIZE, RADIUS, ORANGE = 112, 0.06, (255, 128, 0)
LOOK = """
import json, sys
import numpy as np
from eval.hiding import check_hidden
from eval.positions import grid
from eval.scene import Scene
from videopolicy.errors import BadInput

scene = Scene(224)
model = scene._sim.model._model
scene.reset(grid("all")[100])


def changed(one, other):
    return int((one != other).any(-1).sum())


def refusal():
    try:
        check_hidden(scene)
    except BadInput as error:
        return str(error)


out = []
for shadows in (0, 1):
    model.light_castshadow[:] = shadows
    found = {}
    for shown in (True, False):
        scene.show_robot(shown)
        picture = scene.render()
        turned = [changed(picture, scene.render_turned(angle)) for angle in (-0.8, 0.6, 1.2)]
        n_shown = int(scene.robot_mask().sum())
        again = changed(picture, scene.render())
        found[str(shown)] = {"mask": n_shown, "turned": turned, "again": again, "error": refusal()}
    out.append(found)
# A site that is clear, and that a hidden robot keeps, throws a shadow all the same.
model.site_group[scene._robot_shapes._sites] = 1
out.append(refusal())
scene.show_robot(False)
model.geom_group[model.geom("gripper0_finger1_visual").id] = 1
out.append(refusal())
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
assert "torch" not in sys.modules
"""


def test_no_pixel_is_the_robots_nor_its_shadows(tmp_path: Path) -> None:
    """By the shape that each pixel shows, and by turning every joint: LIBERO's lights as they are, and with shadows."""
    out = tmp_path / "out.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", LOOK, str(out)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    plain, shadows, site, finger = json.loads(out.read_text())
    for found in (plain, shadows):
        assert found["True"]["mask"] > 3000
        assert min(found["True"]["turned"]) > 3000
        assert "pixels show the robot although it is hidden; allowed: none" in found["True"]["error"]
        assert found["False"] == {"mask": 0, "turned": [0, 0, 0], "again": 0, "error": None}
        assert found["True"]["again"] == 0
    assert shadows["True"]["turned"][1] > 1.1 * plain["True"]["turned"][1]
    assert "pixels change with the arm although it is hidden, as by its shadow" in site
    assert "pixels show the robot" in finger


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    output = tmp_path_factory.mktemp("data") / "circles"
    shown = {"overlay": "circle", "circle": CircleConfig(RADIUS), "image_size": SIZE}
    return Config(output, grid=GridConfig("all", 2), **shown, n_workers=1, seed=3)


@pytest.fixture(scope="module")
def circles(config: Config) -> Dataset:
    assert collect.main(config)["new"] == 2
    return Dataset(config.output)


@pytest.fixture(scope="module")
def robot(config: Config) -> Dataset:
    """The same demonstrations with the robot in the picture."""
    seen = replace(config, output=config.output.with_name("robot"), overlay="none")
    assert collect.main(seen)["new"] == 2
    return Dataset(seen.output)


def test_the_expert_moves_as_if_it_were_seen(circles: Dataset, robot: Dataset) -> None:
    for e in range(2):
        np.testing.assert_array_equal(circles.state(e), robot.state(e))
        np.testing.assert_array_equal(circles.action(e), robot.action(e))
        assert circles.extras()[e]["attempts"] == robot.extras()[e]["attempts"] == 1


def orange(frame: np.ndarray) -> np.ndarray:
    return np.abs(frame.astype(int) - ORANGE).max(-1) < 60


def test_a_circle_stands_where_the_end_effector_is_projected(circles: Dataset, robot: Dataset) -> None:
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    radius = RADIUS * SIZE
    for e in range(2):
        pixels, errors = circles.camera.project(circles.state(e)[:, :3]), []
        for frame, pixel in zip(circles.frames(e), pixels, strict=True):
            shown = orange(frame)
            assert shown.sum() == pytest.approx(np.pi * radius**2, rel=0.25)  # edges are soft, colours half as fine
            errors.append(np.hypot(u[shown].mean() - pixel[0], v[shown].mean() - pixel[1]))
        assert max(errors) < 1.0
        assert np.mean(errors) < 0.5
        assert not any(orange(frame).any() for frame in robot.frames(e))
        assert circles.extras()[e]["circle"] == {"radius": round(radius, 3), "colour": list(ORANGE)}


def test_the_rest_of_the_picture_is_the_scene(circles: Dataset, robot: Dataset) -> None:
    """Far from the robot both show the same, near it they do not."""
    one, other = circles.frames(0).astype(int), robot.frames(0).astype(int)
    difference = np.abs(one - other).max(-1)
    assert np.median(difference) <= 2
    assert (difference > 40).mean(axis=(1, 2)).min() > 0.02


def test_the_dataset_says_what_was_drawn(circles: Dataset, robot: Dataset, config: Config) -> None:
    said = {"kind": "circle", "robot": "hidden", "radius": RADIUS, "colour": [255, 128, 0], "radius_jitter": 0.0}
    assert circles.info["overlay"] == circles.overlay == said | {"colour_jitter": 0, "pixel_jitter": 0.0, "apart": 40}
    assert robot.overlay is None
    assert "| drawn over the pictures | circle, robot hidden |" in (config.output / "README.md").read_text()
    assert doctor.main(config.output).sound


def test_other_overlays_are_not_mixed(circles: Dataset, robot: Dataset, config: Config) -> None:
    """The same command changes nothing, another overlay is refused, either way round."""
    more = replace(config, grid=GridConfig("all", 3))
    before = circles.digest
    assert collect.main(config)["new"] == 0
    with pytest.raises(BadInput, match=r"recorded with overlay .*'radius': 0\.06.* not .*'radius': 0\.05"):
        collect.main(replace(more, circle=CircleConfig(radius=0.05)))
    with pytest.raises(BadInput, match=r"robot was recorded with overlay none; allowed: .* not \{'kind': 'circle'"):
        collect.main(replace(more, output=robot.root))
    assert Dataset(config.output).digest == before


def test_a_colour_of_the_scene_is_refused(config: Config, tmp_path: Path) -> None:
    """Before anything is written; one that jitter has drawn, before its episode is."""
    grey = replace(config, output=tmp_path / "grey", circle=CircleConfig(colour=(125, 127, 124)))
    with pytest.raises(
        BadInput, match=r"the circle's colour \[125, 127, 124\] occurs in the scene: \d+ pixels of 1 pic"
    ):
        collect.main(grey)
    assert not (tmp_path / "grey/meta").exists()
    drawn = replace(grey, circle=CircleConfig(colour_jitter=255), seed=352)  # whose first colour is grey
    with pytest.raises(
        BadInput, match=r"colour \[119, 134, 114\] occurs in the pictures with the bowl at \[.*\]: \d+ p"
    ):
        collect.main(drawn)
    assert not (tmp_path / "grey/data").exists()


def test_a_corpus_has_no_overlay(tmp_path: Path) -> None:
    cfg = load(Config, ["--kind", "corpus", "--overlay", "circle", "--output", str(tmp_path / "corpus")])
    with pytest.raises(BadInput, match=r"overlay is 'circle', but kind is 'corpus'"):
        collect.main(cfg)
    assert not (tmp_path / "corpus").exists()


def test_the_command_line_names_the_overlay() -> None:
    cfg = load(Config, ["--overlay", "circle", "--circle.radius", "0.05", "--circle.colour", "[0, 255, 0]"])
    assert (cfg.overlay, cfg.circle) == ("circle", CircleConfig(0.05, (0, 255, 0)))
    with pytest.raises(BadInput, match=r"--overlay is 'cross'; allowed: none, circle"):
        load(Config, ["--overlay", "cross"])
    whole = load(Config, ["--config_path", str(ROOT / "configs/fewshot/circles.yaml")])
    seen = load(Config, ["--config_path", str(ROOT / "configs/ood/grid.yaml")])
    assert replace(whole, output=seen.output, overlay="none") == seen
