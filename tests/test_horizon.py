"""What is seen above the horizon is no height below the camera: a pixel-aligned head never points there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import agentview, look_at
from small_heads import CELL, GRID, HEIGHTS, features, joint, para
from torch import Tensor

from videopolicy.camera import Camera
from videopolicy.errors import BadInput
from videopolicy.heads.para import ParaHead, ParaPrediction


@pytest.fixture
def level() -> Camera:
    """The upper half of its picture shows what is above it."""
    return look_at(np.array([0.9, 0.0, 0.5]), np.array([0.0, 0.0, 0.5]))


def pointing(head: ParaHead, *cells: tuple[int, int, float]) -> ParaPrediction:
    """A prediction with peaks of given logits at cells (row, column)."""
    with torch.no_grad():
        prediction = head(features())
    volume = torch.zeros_like(prediction.volume)
    for row, col, logit in cells:
        volume[:, :, 0, row, col] = logit
    return replace(prediction, volume=volume)


def centre(row: int, col: int) -> Tensor:
    return CELL * torch.tensor([col + 0.5, row + 0.5])


@pytest.mark.parametrize("head", [para(), joint(), para(stiffness=0.1)], ids=["factored", "joint", "stiff"])
def test_the_best_pixel_below_the_horizon_is_taken(head: ParaHead, level: Camera) -> None:
    """Of a higher peak in the sky and a lower one on the table, the lower one; and its point is on the camera's ray."""
    table = (GRID[0] - 6, 4)
    prediction = pointing(head, (0, 9, 30.0), (*table, 12.0))
    chunks = head.decode(prediction, [level] * len(prediction.volume))
    for chunk in chunks:
        np.testing.assert_allclose(chunk.pixel, np.tile(centre(*table).numpy(), (len(chunk.pixel), 1)), atol=CELL)
        np.testing.assert_allclose(level.project(chunk.position), chunk.pixel, atol=1e-6)
        assert (chunk.position[:, 2] < level.position[2]).all()
        assert (chunk.confidence < 1e-6).all()  # nearly all that the head believes is in the sky


def test_a_peak_that_climbs_into_the_sky_stays_below(level: Camera) -> None:
    """Logits that rise up to the top of the picture: the pixel is on the last row that can be lifted, far away."""
    head = para()
    rising = pointing(head, *((row, 9, 2.0 * (GRID[0] - row)) for row in range(GRID[0])))
    for chunk in head.decode(rising, [level] * len(rising.volume)):
        assert (level.rays(chunk.pixel)[:, 2] < 0).all()
        assert (np.linalg.norm(chunk.position, axis=-1) > 5).all()


def test_a_camera_that_looks_down_changes_nothing() -> None:
    head, camera = para(), agentview()
    with torch.no_grad():
        prediction = head(features())
    cameras = [camera] * len(prediction.volume)
    assert torch.equal(head.locate(prediction, cameras).pixel, head.locate(prediction).pixel)
    assert camera.cells_below_horizon(GRID).all()


def test_cameras_that_see_no_table_are_named() -> None:
    head = para()
    prediction = pointing(head)
    low = look_at(np.array([0.9, 0.0, HEIGHTS.high - 0.01]), np.array([0.0, 0.0, 0.0]))
    up = look_at(np.array([0.9, 0.0, 0.5]), np.array([0.0, 0.0, 1.5]))
    for camera, words in ((low, "stands 0.320 m high; allowed: above 0.330 m"), (up, "looks up in all of its picture")):
        with pytest.raises(BadInput, match=words):
            head.decode(prediction, [camera] * len(prediction.volume))
