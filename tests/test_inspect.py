"""What a policy says of one picture: the numbers that it acts by, and a page of those parts that its head has."""

import json
from dataclasses import replace
from pathlib import Path

import builders
import numpy as np
import pytest
import small_heads
import torch
from accelerate.state import AcceleratorState
from flows import config
from PIL import Image

from eval import inspect
from eval.inspection import Reading, draw, part_of, read
from train_stages import joint, light
from videopolicy import policy
from videopolicy.camera import Camera
from videopolicy.data.cameras import read_camera
from videopolicy.data.episode import TrackedEpisode
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput
from videopolicy.heads.head import Targets
from videopolicy.types import Observation

EPISODE, FRAME = 2, 1  # of five frames


@pytest.fixture(scope="module")
def runs(written_dataset: Path, pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    keys = {"data__root": written_dataset, "train__n_steps": 1}
    for kind in ("para", "tracks"):
        light.main(config(light.Config, "light", run=folder / kind, head__kind=kind, **keys))
    light.main(config(light.Config, "light", run=folder / "pixels", head__labels="2d", **keys))
    light.main(config(light.Config, "light", run=folder / "hand", backbone__context="hand", **keys))
    AcceleratorState._reset_state(reset_partial_state=True)  # of the other precision
    keys |= {"backbone__pretrained": pipeline_folder, "backbone__n_frames": 4, "backbone__grid": 8, "leak_clips": 0}
    keys |= {"init_from": "null", "head__n_steps": 3, "preview__clips": 0}
    joint.main(config(joint.Config, "joint_para", run=folder / "svd", **keys))
    return folder


@pytest.fixture
def picture(written_dataset: Path, tmp_path: Path) -> dict[str, Path]:
    """The same frame as a file, and its camera's."""
    data = Dataset(written_dataset)
    Image.fromarray(data.frames(EPISODE)[FRAME]).save(tmp_path / "frame.png")
    (tmp_path / "camera.json").write_text(json.dumps(data.camera.to_json()))
    return {"image": tmp_path / "frame.png", "camera": tmp_path / "camera.json"}


def on_dataset(run: Path, data: Path, output: Path) -> dict:
    return inspect.main(inspect.Config(run, dataset=data, episode=EPISODE, frame=FRAME, output=output))


def seen(root: Path) -> Observation:
    data = Dataset(root)
    state = data.state(EPISODE)[FRAME]
    return Observation(data.frames(EPISODE)[FRAME], data.camera, state[:3].astype(float), 1.0, 0.0)


@pytest.mark.parametrize("kind", ["para", "hand", "tracks", "svd"])
def test_numbers_are_those_it_acts_by(kind: str, runs: Path, written_dataset: Path, tmp_path: Path) -> None:
    """And, of a dataset's frame, what happened beside them."""
    summary = on_dataset(runs / kind, written_dataset, tmp_path / "out.png")
    shown = seen(written_dataset)
    chunk = policy.load(runs / kind)[0].act(shown)
    steps = summary["steps"]
    np.testing.assert_allclose([s["position_m"] for s in steps], chunk.position, atol=2e-5)
    np.testing.assert_allclose([s["gripper"] for s in steps], chunk.gripper, atol=1e-5)
    np.testing.assert_allclose([s["time_s"] for s in steps], chunk.times)
    np.testing.assert_allclose([s["pixel"] for s in steps], shown.camera.project(chunk.position), atol=2e-5)
    state = Dataset(written_dataset).state(EPISODE)[FRAME + 1 :]
    known = [s for s in steps if "true_position_m" in s]
    assert len(known) == min(len(state), len(steps)) == 3
    np.testing.assert_allclose([s["true_position_m"] for s in known], state[:, :3], atol=1e-5)
    away = np.linalg.norm(chunk.position[:3] - state[:, :3], axis=-1)
    np.testing.assert_allclose([s["error_m"] for s in known], away, atol=1e-4)
    if kind == "tracks":
        assert summary["not_shown"] == [
            "the head tracks has no heatmaps of its steps, no confidence and no bins: the path alone"
        ]
        assert "confidence" not in steps[0]
    else:
        assert summary["not_shown"] == []
        np.testing.assert_allclose([s["confidence"] for s in steps], chunk.confidence, atol=1e-5)
    assert json.loads((tmp_path / "out.json").read_text()) == summary
    assert min(Image.open(tmp_path / "out.png").size) > 500


def test_a_picture_is_as_good_as_a_dataset(
    runs: Path, written_dataset: Path, picture: dict[str, Path], tmp_path: Path
) -> None:
    """The same frame, and where the end effector is, said in pixels or in metres; not said, the answer is another."""
    expected = on_dataset(runs / "para", written_dataset, tmp_path / "a.png")
    cfg = inspect.Config(runs / "para", **picture, output=tmp_path / "b.png")
    u, v = expected["start_pixel"]
    x, y, z = seen(written_dataset).ee_position.tolist()
    for told in (replace(cfg, start=(u, v)), replace(cfg, ee_position=(x, y, z))):
        found = inspect.main(told)
        for ours, theirs in zip(found["steps"], expected["steps"], strict=True):
            np.testing.assert_allclose(ours["position_m"], theirs["position_m"], atol=1e-4)
            assert "true_position_m" not in ours
    untold = inspect.main(cfg)
    assert untold["start_pixel"] is None
    assert untold["not_shown"] == [
        "no start keypoint: the picture does not show the end effector, or nobody said where it is"
    ]
    assert untold["steps"] != found["steps"]


def test_a_policy_that_knows_how_high_the_hand_is_must_be_told(
    runs: Path, written_dataset: Path, picture: dict[str, Path], tmp_path: Path
) -> None:
    """By a position in metres: a pixel leaves the height open. Another height is another answer."""
    cfg = inspect.Config(runs / "hand", **picture, output=tmp_path / "out.png")
    with pytest.raises(BadInput, match=r"backbone\.context is hand, .* allowed: its position"):
        inspect.main(replace(cfg, start=(30.0, 30.0)))
    assert not (tmp_path / "out.png").exists()
    x, y, z = seen(written_dataset).ee_position.tolist()
    eye = seen(written_dataset).camera.T_world_cam[:3, 3]
    higher = np.array([x, y, z]) + 0.1 * (eye - [x, y, z])  # seen at the same pixel
    here, above = (inspect.main(replace(cfg, ee_position=tuple(p))) for p in ([x, y, z], higher.tolist()))
    np.testing.assert_allclose(here["start_pixel"], above["start_pixel"], atol=1e-3)
    assert here["steps"] != above["steps"]


def test_pixels_alone_need_no_camera(runs: Path, picture: dict[str, Path], tmp_path: Path) -> None:
    cfg = inspect.Config(runs / "pixels", picture["image"], start=(30.0, 30.0), output=tmp_path / "out.png")
    found = inspect.main(cfg)
    assert [sorted(row) for row in found["steps"]] == [["confidence", "pixel", "step"]] * 6
    assert found["not_shown"] == [
        "the head was trained on pixels alone (head.labels 2d): no heights, no gripper, no path in space"
    ]
    with pytest.raises(BadInput, match=r"has no camera, without which .*para cannot lift pixels"):
        inspect.main(replace(cfg, policy=runs / "para"))


def test_a_dataset_of_tracks_has_pixels_alone(runs: Path, tmp_path: Path) -> None:
    episode = builders.episode(0, 5)
    track = builders.agentview(64).project(episode.state[:, :3])
    writer = Writer(tmp_path / "tracks", builders.FPS, "video", (64, 64), "move along a line", robot="video")
    writer.append(TrackedEpisode(episode.frames, track, {}))
    writer.finish()
    cfg = inspect.Config(runs / "pixels", dataset=writer.root, frame=1, output=tmp_path / "out.png")
    found = inspect.main(cfg)
    np.testing.assert_allclose(found["start_pixel"], track[1], atol=1e-4)
    np.testing.assert_allclose([s["true_pixel"] for s in found["steps"][:3]], track[2:], atol=1e-4)
    assert [s["true_position_m"] for s in found["steps"][:3]] == [None] * 3
    with pytest.raises(BadInput, match="tracks, episode 0, frame 1 has no camera, without which"):
        inspect.main(replace(cfg, policy=runs / "para"))


def reading(runs: Path, root: Path, kind: str) -> Reading:
    shown = seen(root)
    start = shown.camera.project(shown.ee_position)
    return read(policy.load(runs / kind, acting=False)[0], shown.image, shown.camera, start, shown.ee_position)


@pytest.mark.parametrize(
    ("kind", "n_maps", "curves"), [("para", 6, 3), ("tracks", 0, 2), ("pixels", 6, 1), ("svd", 3, 3)]
)
def test_the_page_has_what_the_head_has(runs: Path, written_dataset: Path, kind: str, n_maps: int, curves: int) -> None:
    found = reading(runs, written_dataset, kind)
    page = draw(found, None, None, "title", ["a note"])
    titles = [axes.get_title() for axes in page.axes]
    assert sum(title.startswith("step ") for title in titles) == n_maps
    assert ("the path as the camera sees it" in titles) == (kind != "pixels")
    labels = [axes.get_ylabel() for axes in page.axes]
    assert sum(label.startswith(("height", "gripper", "confidence")) for label in labels) == curves
    assert page.get_supxlabel() == "a note"


def test_the_part_that_is_drawn_holds_the_path(runs: Path, written_dataset: Path) -> None:
    """Whatever the picture's shape, and all of it where a heatmap is everywhere."""
    found = reading(runs, written_dataset, "para")
    assert part_of(found, None, (512, 512), 8.0) == (0, 0, 512)
    along = np.linspace(0, 20, 6)[:, None]
    for way in (found.start + along * [1, 0], [2, 2] + along, [60, 60] - along):
        for shape in ((512, 512), (512, 1024)):
            one = replace(found, heatmap=None, pixel=way)
            left, top, side = part_of(one, None, shape, 8.0)
            points = np.concatenate([one.start[None], way]) * 8
            assert ((points >= [left, top]) & (points <= [left + side, top + side])).all()
            assert side < min(shape)
            assert min(left, top) >= 0
            assert left + side <= shape[1]
            assert top + side <= shape[0]


@pytest.mark.parametrize("head", [small_heads.para(), small_heads.joint()], ids=["factored", "joint"])
def test_shares_are_of_the_bins_that_are_decoded(head: small_heads.ParaHead) -> None:
    height, gripper = torch.rand(2, 2, 6, generator=torch.Generator().manual_seed(0))
    height = head.height_bins.low + height * (head.height_bins.high - head.height_bins.low)
    pixel = 40 + 140 * torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(1))
    said = Targets(pixel, height, gripper, torch.zeros(2, 6, 3), torch.ones(2, 6, dtype=torch.bool))
    shares = head.shares(head.encode(said), pixel)
    for name, bins, value in (("height", head.height_bins, height), ("gripper", head.gripper_bins, gripper)):
        torch.testing.assert_close(shares[name].sum(-1), torch.ones(2, 6))
        assert torch.equal(shares[name].argmax(-1), bins.encode(value))


def test_a_camera_by_itself_or_by_name(tmp_path: Path) -> None:
    camera = builders.agentview(64)
    path = tmp_path / "camera.json"
    for entry in (camera.to_json(), {"front": camera.to_json()}):
        path.write_text(json.dumps(entry))
        found = read_camera(path)
        assert isinstance(found, Camera)
        np.testing.assert_array_equal(found.K, camera.K)
    path.write_text(json.dumps({"front": camera.to_json(), "side": camera.to_json()}))
    with pytest.raises(BadInput, match="holds 2 cameras, front, side; allowed: a file with one"):
        read_camera(path)
    path.write_text(json.dumps({**camera.to_json(), "distortion": [0.1, 0, 0, 0, 0]}))
    with pytest.raises(BadInput, match=r"distortion is .*undistort pictures first"):
        read_camera(path)
    path.write_text(json.dumps({"K": np.eye(3).tolist()}))
    with pytest.raises(BadInput, match="the camera has no 'T_world_cam'"):
        read_camera(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": Path("data")}, "image is .* and dataset is data; allowed: one of the two"),
        ({"image": None}, "image is None and dataset is None; allowed: one of the two"),
        ({"output": Path("out.jpg")}, "output is out.jpg; allowed: a name in .png"),
        ({"image": Path("nothing.png")}, "cannot read nothing.png: No such file"),
        ({"start": (64.0, 3.0)}, r"start is \[64.0, 3.0\]; allowed: a pixel of .*, 64 x 64, or null"),
        (
            {"start": (1.0, 1.0), "ee_position": (0.0, 0.0, 0.1)},
            "ee_position is .*; allowed: with a camera, and instead",
        ),
        ({"ee_position": (0.0, 0.0, float("nan"))}, "ee_position is .*nan.*; allowed: x, y, z"),
        ({"n_threads": 0}, "n_threads is 0; allowed: at least 1"),
        ({"policy": Path("nowhere")}, "no checkpoint in nowhere"),
        ({"episode": 3}, "episode is 3; allowed: 0 to 2"),
        ({"frame": 5}, "frame is 5; allowed: 0 to 3 of episode 1"),
    ],
)
def test_bad_input_is_one_clear_line(
    runs: Path, written_dataset: Path, picture: dict[str, Path], tmp_path: Path, change: dict, words: str
) -> None:
    keys: dict = {"policy": runs / "para", "output": tmp_path / "out.png", **picture}
    if "episode" in change or "frame" in change:
        keys = {**keys, "image": None, "camera": None, "dataset": written_dataset, "episode": 1}
    with pytest.raises(BadInput, match=words) as caught:
        inspect.main(inspect.Config(**{**keys, **change}))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out.*"))


def test_pictures_of_another_size_than_the_cameras_are_refused(
    runs: Path, picture: dict[str, Path], tmp_path: Path
) -> None:
    Image.open(picture["image"]).resize((96, 64)).save(picture["image"])
    with pytest.raises(BadInput, match="image is 96 x 64 pixels, its camera's are 64 x 64"):
        inspect.main(inspect.Config(runs / "para", **picture, output=tmp_path / "out.png"))
