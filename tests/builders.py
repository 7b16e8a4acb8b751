"""Cameras, pictures and datasets made of nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from videopolicy.backbones.pipeline import Architecture
from videopolicy.camera import Camera
from videopolicy.data import checksums
from videopolicy.data.files import LOCK
from videopolicy.data.recording import Episode, Writer

MARKERS = np.array([[-0.30, -0.20, 0.02], [0.0, 0.22, 0.02], [0.05, -0.10, 0.10]])  # world [m]
LENGTHS = (6, 4, 5)  # frames per episode
FPS = 4
CIRCLE = {"kind": "circle", "robot": "hidden", "radius": 0.03}  # an overlay
KEY = "observation.images.agentview"
TABLE = "data/chunk-000/file-{:03d}.parquet"
TOY = Architecture((64, 64), 4, FPS, (32, 32), (False, True), vae_channels=(32, 32, 32))
VIDEO = f"videos/{KEY}/chunk-000/file-{{:03d}}.mp4"
ROW = "meta/episodes/chunk-000/file-{:03d}.parquet"


def look_at(position: np.ndarray, target: np.ndarray, size: tuple[int, int] = (224, 224), fovy: float = 45.0) -> Camera:
    """A camera at `position` whose optical axis passes through `target`; image right is horizontal."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-3:  # straight down: any horizontal direction will do
        right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    T_world_cam[:3, 3] = position
    f = size[1] / 2 / np.tan(np.radians(fovy / 2))
    return Camera(np.array([[f, 0, size[0] / 2], [0, f, size[1] / 2], [0, 0, 1]]), T_world_cam, size)


def agentview(side: int = 224) -> Camera:
    """LIBERO's agentview: in front of the robot, .71 m above the table, image right = world +y."""
    position = np.array([0.6586, 0.0, 0.7104])
    return look_at(position, position + np.array([-0.778, 0.0, -0.6283]), (side, side))


def discs(background: np.ndarray, pixels: np.ndarray, radius: float = 2.5) -> np.ndarray:
    """A picture with soft-edged magenta discs centred at continuous pixels."""
    height, width = background.shape[:2]
    v, u = np.mgrid[0:height, 0:width] + 0.5
    image = background.astype(float)
    for pixel in pixels:
        cover = np.clip(radius + 0.5 - np.hypot(u - pixel[0], v - pixel[1]), 0, 1)[..., None]
        image = image * (1 - cover) + np.array([255.0, 0.0, 255.0]) * cover
    return image.round().astype(np.uint8)


def background(side: int = 64) -> np.ndarray:
    """A picture that looks different upside down, mirrored and rotated."""
    v, u = np.mgrid[0:side, 0:side] / side
    return (np.stack([40 + 120 * u, 60 + 100 * v, 90 + 60 * u * v], -1)).astype(np.uint8)


def episode(number: int, n_frames: int, side: int = 64) -> Episode:
    """The arm on a straight line over the table, seen as a disc; the gripper closes half way."""
    t = np.linspace(0, 1, n_frames)
    position = np.stack([-0.2 + 0.2 * t, 0.1 * number - 0.1 + 0.05 * t, 0.2 - 0.15 * t], -1)
    state = np.concatenate([position, (t < 0.5)[:, None]], -1)
    action = np.concatenate([position[[*range(1, n_frames), -1]], (t < 0.5)[:, None]], -1)
    camera = agentview(side)
    frames = np.stack([discs(background(side), camera.project(p[None]), 4.0) for p in position])
    return Episode(frames, state, action, {"placed": True, "number": number})


def snapshot(root: Path) -> dict[str, bytes]:
    """All of a folder's files but who holds it."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != LOCK}


def open_writer(root: Path, side: int = 64, rotations: bool = False, overlay: dict | None = None) -> Writer:
    return Writer(root, FPS, "agentview", agentview(side), "move along a line", rotations=rotations, overlay=overlay)


def without_sums(root: Path) -> Path:
    """A dataset as other tools write them, whose files may be changed."""
    (root / checksums.FILE).unlink()
    return root


def write_dataset(
    root: Path,
    lengths: tuple[int, ...] = LENGTHS,
    side: int = 64,
    change: Callable[[int, Episode], Episode] = lambda _number, episode: episode,
    rotations: bool = False,
    overlay: dict | None = None,
) -> Path:
    """A dataset that passes its camera self-test, its episodes changed before they are written; returns its folder."""
    writer = open_writer(root, side, rotations, overlay)
    plain = background(side)
    writer.write_markers(MARKERS, discs(plain, agentview(side).project(MARKERS)), plain)
    for i, n in enumerate(lengths):
        writer.append(change(i, episode(i, n, side)))
    writer.finish()
    return root
