"""Laws of projection and lifting, the marker self-test, and robosuite as a reference."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import MARKERS, agentview, background, discs, look_at
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from videopolicy.camera import Camera, RayMissesPlane, check_markers
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent


def vectors(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> st.SearchStrategy:
    return st.tuples(*(st.floats(*interval) for interval in (x, y, z))).map(np.array)


cameras = st.builds(
    look_at,
    vectors((-1, 1), (-1, 1), (0.4, 2)),
    vectors((-0.5, 0.5), (-0.5, 0.5), (0, 0.1)),
    st.sampled_from([(224, 224), (448, 256)]),
    st.floats(20, 90),
)
points = vectors((-0.6, 0.6), (-0.6, 0.6), (0, 0.35))


def depth(camera: Camera, point: np.ndarray) -> float:
    return float((point - camera.position) @ camera.T_world_cam[:3, 2])


@given(cameras, points)
@settings(deadline=None)
def test_lifting_inverts_projection(camera: Camera, point: np.ndarray) -> None:
    """lift(project(p), p_z) = p for every point in front of the camera."""
    assume(depth(camera, point) > 0.05)
    lifted = camera.lift(camera.project(point[None]), point[None, 2])
    np.testing.assert_allclose(lifted[0], point, atol=1e-9)


@given(cameras, cameras, points)
@settings(deadline=None)
def test_height_is_the_same_from_every_view(one: Camera, other: Camera, point: np.ndarray) -> None:
    """One point, two cameras, one height: both lift their own pixel to the same place."""
    assume(min(depth(one, point), depth(other, point)) > 0.05)
    lifted = [c.lift(c.project(point[None]), point[None, 2]) for c in (one, other)]
    np.testing.assert_allclose(lifted[0], lifted[1], atol=1e-9)


@given(cameras, points, st.tuples(st.integers(8, 900), st.integers(8, 900)))
@settings(deadline=None)
def test_resizing_scales_pixels(camera: Camera, point: np.ndarray, size: tuple[int, int]) -> None:
    """Continuous pixels scale with the image, without any half-pixel shift."""
    assume(depth(camera, point) > 0.05)
    scaled = camera.project(point) * np.array(size) / np.array(camera.size)
    np.testing.assert_allclose(camera.resized(size).project(point), scaled, rtol=1e-9, atol=1e-7)


def test_agentview_sees_what_libero_shows(camera: Camera) -> None:
    """Right is +y, up is away from the camera, and the home pose lands where LIBERO's picture has it."""
    origin, right, far = camera.project(np.array([[0, 0, 0], [0, 0.1, 0], [-0.1, 0, 0]], float))
    assert right[0] > origin[0] + 10
    assert right[1] == pytest.approx(origin[1])
    assert far[1] < origin[1] - 10
    np.testing.assert_allclose(camera.project(np.array([-0.208, 0.0, 0.273])), [112, 53.7], atol=0.2)


def test_behind_the_camera_there_are_no_pixels(camera: Camera) -> None:
    behind = camera.position - 0.5 * camera.T_world_cam[:3, 2]
    pixel = camera.project(np.stack([behind, camera.position, np.zeros(3)]))
    assert np.isnan(pixel[:2]).all()
    assert camera.contains(pixel).tolist() == [False, False, True]


def test_the_image_contains_its_first_corner_but_not_its_last(camera: Camera) -> None:
    corners = np.array([[0, 0], [223.99, 223.99], [224, 100], [100, 224], [-0.01, 100]], float)
    assert camera.contains(corners).tolist() == [True, True, False, False, False]


def test_rays_that_miss_the_plane_are_refused() -> None:
    """Parallel rays, and planes behind the camera, each name the pixel and the height."""
    level = look_at(np.array([0.0, 0.0, 0.5]), np.array([1.0, 0.0, 0.5]))
    with pytest.raises(RayMissesPlane, match=r"\[112\.0, 112\.0\].*z = 0\.100"):
        level.lift(np.array([112.0, 112.0]), np.array(0.1))
    above_the_horizon = np.array([[112.0, 200.0], [112.0, 20.0]])
    with pytest.raises(RayMissesPlane, match=r"\[112\.0, 20\.0\]"):
        level.lift(above_the_horizon, np.array([0.1, 0.1]))
    with pytest.raises(RayMissesPlane, match=r"z = 0\.900"):
        level.lift(np.array([112.0, 200.0]), np.array(0.9))


@pytest.mark.parametrize("broken", [np.diag([1.0, 1.0, -1.0]), np.eye(3) * 1.1, np.eye(3)[:, ::-1]])
def test_a_pose_must_be_rigid(camera: Camera, broken: np.ndarray) -> None:
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = broken
    with pytest.raises(BadInput, match="rigid"):
        Camera(camera.K, T_world_cam, camera.size)


def test_focal_lengths_must_be_positive(camera: Camera) -> None:
    with pytest.raises(BadInput, match="focal"):
        Camera(np.diag([-270.0, 270.0, 1.0]), camera.T_world_cam, camera.size)


def test_json_keeps_every_bit(camera: Camera) -> None:
    back = Camera.from_json(json.loads(json.dumps(camera.to_json())))
    assert (back.K == camera.K).all()
    assert (back.T_world_cam == camera.T_world_cam).all()
    assert back.size == camera.size


@pytest.mark.parametrize("side", [64, 224])
def test_markers_are_found_where_they_are(side: int) -> None:
    plain, view = background(side), agentview(side)
    assert check_markers(view, MARKERS, discs(plain, view.project(MARKERS)), plain).max() < 0.2


@pytest.mark.parametrize(
    ("flip", "word"),
    [
        (lambda x: x[::-1], "upside down"),
        (lambda x: x[:, ::-1], "mirrored"),
        (lambda x: x[::-1, ::-1], "180 degrees"),
    ],
)
@pytest.mark.parametrize("side", [64, 224])
def test_flipped_pictures_are_named(flip: object, word: str, side: int) -> None:
    plain, view = background(side), agentview(side)
    shown = discs(plain, view.project(MARKERS))
    with pytest.raises(BadInput, match=f"it looks .*{word}"):
        check_markers(view, MARKERS, flip(shown), flip(plain))


def test_a_camera_that_is_slightly_off_is_refused_without_a_guess(camera: Camera) -> None:
    plain = background(224)
    shown = discs(plain, camera.project(MARKERS) + 2.5)
    with pytest.raises(BadInput, match=r"appear 3\.\d px") as caught:
        check_markers(camera, MARKERS, shown, plain)
    assert "looks" not in str(caught.value)
    with pytest.raises(BadInput, match=r"\(64, 64\).*\(224, 224\)"):
        check_markers(camera, MARKERS, background(64), background(64))


ROBOSUITE = """
import json, os, sys
os.environ.setdefault("MUJOCO_GL", "egl")
if os.environ["MUJOCO_GL"] in ("egl", "osmesa"):
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
import mujoco
import numpy as np
from robosuite.utils import camera_utils
from robosuite.utils.binding_utils import MjSim
from videopolicy.camera import Camera

points = np.array([[-0.2, -0.2, 0.02], [0.0, 0.21, 0.05], [0.1, -0.1, 0.1], [-0.1, 0.1, 0.3], [0.05, 0.02, 0.2]])
balls = "".join(f'<geom size=".012" pos="{x} {y} {z}"/>' for x, y, z in points)
view = '<camera name="c" pos=".66 .1 .71" quat=".638 .305 .305 .638" fovy="45"/>'
sim = MjSim.from_xml_string(f"<mujoco><worldbody>{balls}{view}</worldbody></mujoco>")
sim.forward()
width, height = 320, 240
K = camera_utils.get_camera_intrinsic_matrix(sim, "c", height, width)
camera = Camera(K, camera_utils.get_camera_extrinsic_matrix(sim, "c"), (width, height))
h = np.c_[points, np.ones(len(points))] @ camera_utils.get_camera_transform_matrix(sim, "c", height, width).T
with mujoco.Renderer(sim.model._model, height, width) as renderer:
    renderer.enable_segmentation_rendering()
    renderer.update_scene(sim.data._data, "c")
    ids = renderer.render()[..., 0]
seen = [[float(x.mean() + 0.5) for x in np.nonzero(ids == i)[::-1]] for i in range(len(points))]
with open(sys.argv[1], "w") as file:
    json.dump({"ours": camera.project(points).tolist(), "theirs": (h[:, :2] / h[:, 2:3]).tolist(), "seen": seen}, file)
assert "torch" not in sys.modules
"""


def test_projection_equals_robosuite_and_the_rendered_picture(tmp_path: Path) -> None:
    """Their matrix gives our pixels exactly; rendered balls are centred there, without a half-pixel shift."""
    command = [sys.executable, "-c", ROBOSUITE, str(tmp_path / "out.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    out = {k: np.array(v) for k, v in json.loads((tmp_path / "out.json").read_text()).items()}
    np.testing.assert_allclose(out["ours"], out["theirs"], atol=1e-9)
    np.testing.assert_allclose(out["ours"], out["seen"], atol=0.2)
