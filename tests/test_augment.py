"""Camera augmentation: what a turned or zoomed camera sees, and where the labels go."""

import numpy as np
import pytest
import torch
from builders import MARKERS, agentview, background, discs

from videopolicy.camera import Camera
from videopolicy.data.augment import AugmentConfig, augmented, draw_homographies, warp_images, warp_pixels
from videopolicy.errors import BadInput

SIDE = 128


def draw(n: int, **ranges: float) -> torch.Tensor:
    cfg = AugmentConfig("camera", **ranges)
    return draw_homographies(cfg, n, torch.from_numpy(agentview(SIDE).K), torch.Generator().manual_seed(0))


def test_it_is_what_a_turned_camera_projects() -> None:
    """At any depth: K' R applied to the camera moves every point's pixel by the one homography."""
    camera, H = agentview(SIDE), draw(8)
    points = np.random.default_rng(0).uniform([-0.4, -0.3, 0], [0.1, 0.3, 0.4], (20, 3))
    pixel = torch.from_numpy(camera.project(points))
    for i, moved in enumerate(warp_pixels(H, pixel.expand(8, -1, -1))):
        np.testing.assert_allclose(moved.numpy(), turned(camera, H[i]).project(points), atol=1e-6)


def test_moved_labels_mean_the_same_points() -> None:
    """A moved pixel and the height that stays, lifted by the camera that moved, are the waypoint that stays."""
    camera, H = agentview(SIDE), draw(8)
    points = np.random.default_rng(1).uniform([-0.3, -0.2, 0], [0.0, 0.2, 0.3], (6, 3))
    pixel = torch.from_numpy(camera.project(points)).expand(8, -1, -1)
    batch = {
        "frames": torch.zeros(8, 1, SIDE, SIDE, 3, dtype=torch.uint8),
        "pixel": pixel,
        "start_pixel": pixel[:, 0],
        "height": torch.from_numpy(points[:, 2]).expand(8, -1),
        "position": torch.from_numpy(points).expand(8, -1, -1),
        "valid": torch.ones(8, 6, dtype=torch.bool),
    }
    out = augmented(batch, H, camera.size)
    assert out["valid"].float().mean() > 0.5
    for i in range(8):
        lifted = turned(camera, H[i]).lift(out["pixel"][i].numpy(), out["height"][i].numpy())
        np.testing.assert_allclose(lifted, out["position"][i].numpy(), atol=1e-6)


def turned(camera: Camera, H: torch.Tensor) -> Camera:
    """The camera whose picture a homography K' R K^-1 makes of another's: split it into R and the zoomed K'."""
    Q = H.numpy() @ camera.K
    scale = np.linalg.norm(Q[2])
    zoom = (Q @ Q.T / scale**2 - np.outer(camera.K[:, 2], camera.K[:, 2]))[0, 0] ** 0.5
    K = camera.K.copy()
    K[0, 0] = K[1, 1] = zoom
    R = np.linalg.inv(K) @ Q
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    T = camera.T_world_cam.copy()
    T[:3, :3] = T[:3, :3] @ R.T
    return Camera(K, T, camera.size)


def test_pictures_move_with_their_labels() -> None:
    """Discs drawn at projected points appear where the homography takes their pixels."""
    camera, H = agentview(SIDE), draw(4, pan=5.0, tilt=4.0)
    pixel = camera.project(MARKERS)
    image = torch.from_numpy(discs(background(SIDE), pixel))
    moved = warp_images(H, image.expand(4, -1, -1, -1))
    where = warp_pixels(H, torch.from_numpy(pixel).expand(4, -1, -1))
    v, u = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    for picture, points in zip(moved.numpy().astype(float), where.numpy(), strict=True):
        magenta = np.clip(picture[..., 0] - picture[..., 1] - 60, 0, None)
        for point in points:
            near = magenta * (np.hypot(u - point[0], v - point[1]) < 6)
            centroid = [(near * u).sum() / near.sum(), (near * v).sum() / near.sum()]
            np.testing.assert_allclose(centroid, point, atol=0.25)


def test_nothing_changes_without_it() -> None:
    image = torch.from_numpy(background(SIDE))[None]
    H = draw_homographies(AugmentConfig(), 1, torch.from_numpy(agentview(SIDE).K), torch.Generator())
    torch.testing.assert_close(H[0], torch.eye(3, dtype=torch.float64))
    assert torch.equal(warp_images(H, image), image)


def test_what_leaves_the_picture_is_no_label() -> None:
    batch = {
        "frames": torch.zeros(1, 1, SIDE, SIDE, 3, dtype=torch.uint8),
        "pixel": torch.tensor([[[64.0, 64.0], [120.0, 64.0], [64.0, 64.0]]]),
        "start_pixel": torch.tensor([[125.0, 20.0]]),
        "valid": torch.tensor([[True, True, False]]),
        "height": torch.zeros(1, 3),
    }
    H = torch.eye(3, dtype=torch.float64)[None].clone()
    H[:, 0, 2] = 20.0  # everything 20 pixels to the right
    out = augmented(batch, H, (SIDE, SIDE))
    assert out["valid"].tolist() == [[True, False, False]]
    assert out["start_pixel"].isnan().all()
    torch.testing.assert_close(out["pixel"], batch["pixel"] + torch.tensor([20.0, 0.0]))
    assert out["height"] is batch["height"]


def test_impossible_ranges_are_named() -> None:
    for name, value, words in (
        ("pan", -1.0, r"augment.pan is -1.0; allowed: 0 to 45 degrees"),
        ("zoom", 1.0, r"augment.zoom is 1.0; allowed: 0 to below 1"),
    ):
        with pytest.raises(BadInput, match=words):
            AugmentConfig(**{name: value})
