"""The pixel-aligned head: equivariance, exact losses, round trips and axes."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from builders import agentview
from einops import rearrange
from small_heads import (
    CELL,
    GRID,
    HEIGHTS,
    features,
    joint,
    para,
    prediction_of,
    rotating,
    targets,
)
from torch import Tensor

from bench import naive
from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.errors import BadInput
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead, ParaPrediction


@pytest.mark.parametrize(("rows", "cols"), [(2, -3), (-1, 4)])
def test_shifting_features_shifts_the_pixel(rows: int, cols: int) -> None:
    """A pattern that moves by whole cells moves the predicted pixel by as many whole cells."""
    head, here = para(n_frames=1, n_steps=1), torch.zeros(1, 1, 16, *GRID)
    here[..., 11:16, 12:17] = features().dense[:1, :1, :, :5, :5] * 3
    there = here.roll((rows, cols), (-2, -1))
    head.trunk[0] = torch.nn.Identity()  # statistics over the map are the same anyway; keep the zeros zero
    with torch.no_grad():
        one, other = (head(FeatureMap(x)).heatmap for x in (here, there))
    inside = (slice(None), slice(None), slice(6, 22), slice(6, 22))  # away from the zero padding
    one, other = ((20 * (x - x[..., 3:4, 13:14]))[inside] for x in (one, other))
    head.image_size = (16 * CELL, 16 * CELL)
    moved = head.locate(prediction_of(other)).pixel - head.locate(prediction_of(one)).pixel
    torch.testing.assert_close(moved[0, 0], torch.tensor([cols * CELL, rows * CELL]).float(), atol=0.05, rtol=0)


def test_encoding_then_decoding_returns_the_waypoints(camera: Camera) -> None:
    """The head's ceiling on LIBERO's camera: bins of 11 mm and cells of 8 pixels cost millimetres, not centimetres."""
    head, labels = para(), targets(camera, 16)
    chunks = head.decode(head.encode(labels), [camera] * 16)
    position = torch.from_numpy(np.stack([c.position for c in chunks])).float()
    error = 1000 * (position - labels.position).norm(dim=-1)
    assert error.median() < 6
    assert error.max() < 15
    pixel = torch.from_numpy(np.stack([c.pixel for c in chunks])).float()
    assert (pixel - labels.pixel).norm(dim=-1).max() < 1.0
    gripper = torch.from_numpy(np.stack([c.gripper for c in chunks])).float()
    torch.testing.assert_close(gripper, labels.gripper, atol=1e-3, rtol=0)
    assert all(c.period == 0.25 for c in chunks)


def test_decoding_uses_each_images_own_camera(camera: Camera) -> None:
    """A camera of another image size is resized to the head's; positions do not notice."""
    head, labels = para(), targets(camera, 1)
    prediction = head.encode(labels)
    (full,), (small,) = (head.decode(prediction, [c]) for c in (camera, camera.resized((64, 64))))
    np.testing.assert_allclose(full.position, small.position, atol=1e-9)


def test_columns_are_u_and_rows_are_v() -> None:
    """A peak in row 5, column 20 is right of the middle and above it."""
    heatmap = torch.full((1, 1, *GRID), -50.0)
    heatmap[0, 0, 5, 20] = 50.0
    peak = para(1, 1).locate(prediction_of(heatmap))
    torch.testing.assert_close(peak.pixel[0, 0], torch.tensor([20.5 * CELL, 5.5 * CELL]), atol=0.6, rtol=0)
    assert peak.confidence.item() > 0.99
    assert para(1, 1).locate(prediction_of(0 * heatmap)).confidence.item() < 0.02


def test_bins_are_read_at_the_true_pixel(camera: Camera) -> None:
    """Teacher forcing: right bins at the true pixel cost nothing, whatever they say elsewhere."""
    head, labels = para(), targets(camera, 2)
    sharp = head.encode(labels)
    loss = head.loss(sharp, labels)
    assert loss["height"] < 1e-3
    mirrored = replace(sharp, everywhere={**sharp.everywhere, "height": sharp.everywhere["height"].flip(2)})
    assert head.loss(mirrored, labels)["height"] > 5


@pytest.mark.parametrize(("frames", "steps"), [(6, 12), (1, 12)])
@pytest.mark.parametrize("options", [{}, {"volume_loss": "joint"}, {"n_rotation": 5}])
def test_the_losses_are_those_of_full_maps(camera: Camera, frames: int, steps: int, options: dict) -> None:
    """In double precision, values and gradients: reading features before mapping them to bins changes nothing."""
    head, labels = para(frames, steps, **options).double(), targets(camera, 2, steps)
    hidden = torch.randn(2, frames, 16, *GRID, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hidden.requires_grad_()
    n = head.steps_per_frame
    volume = rearrange(head.volume(hidden.flatten(0, 1)), "(b t) (n k) h w -> b (t n) k h w", b=2, n=n)
    ours = head.loss(ParaPrediction(volume, hidden), labels)
    theirs: dict[str, Tensor] = {}
    for i in range(frames):  # the naive form takes one frame
        window = slice(i * n, (i + 1) * n)
        every = ((f.name, getattr(labels, f.name)) for f in fields(Targets))
        its = Targets(**{name: value[:, window] for name, value in every if value is not None})
        for name, value in naive.loss(head, hidden[:, i : i + 1], its).items():
            theirs[name] = theirs.get(name, 0) + value / frames
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-12, atol=1e-12)
    inputs = [hidden, head.volume.weight, head.readers["gripper"].weight, head.readers["gripper"].bias]
    for a, b in zip(
        torch.autograd.grad(sum(ours.values()), inputs), torch.autograd.grad(sum(theirs.values()), inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", [joint, rotating])
def test_joint_volumes_and_rotations_are_encoded_too(camera: Camera, make: Callable[[], ParaHead]) -> None:
    head, labels = make(), targets(camera, 16)
    chunks = head.decode(head.encode(labels), [camera] * 16)
    position = torch.from_numpy(np.stack([c.position for c in chunks])).float()
    assert (position - labels.position).norm(dim=-1).max() < 0.015
    if head.cfg.n_rotation:
        rotation = torch.from_numpy(np.stack([c.rotation for c in chunks])).float()
        away = (rotation - labels.rotation + np.pi).remainder(2 * np.pi) - np.pi
        assert away.abs().max() < np.pi / 24 + 1e-3
    else:
        assert all(c.rotation is None for c in chunks)


def test_rotation_bins_close_the_circle() -> None:
    """Between the last bin and the first lies a half turn, not zero."""
    head = rotating()
    logits = torch.full((1, 6, 24), -30.0)
    logits[..., 0] = logits[..., 23] = 5.0
    everywhere = {name: torch.zeros(1, 6, n) for name, n in head.sizes.items()} | {"rotation_x": logits}
    prediction = replace(head.encode(targets(agentview(), 1)), everywhere=everywhere)
    (chunk,) = head.decode(prediction, [agentview()])
    np.testing.assert_allclose(np.abs(chunk.rotation[:, 0]), np.pi, atol=1e-3)


def test_rotations_need_labels(camera: Camera) -> None:
    head = rotating()
    with pytest.raises(BadInput, match="n_rotation is 24, but the data has no rotations; allowed: 0"):
        head.loss(head(features()), replace(targets(camera, 2), rotation=None))


def test_a_stiff_path_does_not_jump() -> None:
    """A step whose best cell is far from its neighbours' takes the next best nearby; the pixel follows."""
    heatmap = torch.zeros(1, 6, *GRID)
    heatmap[0, :, 10, 10] = 5.0
    heatmap[0, 3, 20, 25] = 6.0
    loose, stiff = (para(stiffness=s).locate(prediction_of(heatmap)).pixel[0] for s in (0.0, 0.1))
    torch.testing.assert_close(loose[3], torch.tensor([25.5, 20.5]) * CELL, atol=1.0, rtol=0)
    torch.testing.assert_close(stiff, torch.tensor([[10.5, 10.5]]).expand(6, 2) * CELL, atol=1.0, rtol=0)


def test_each_frame_predicts_its_own_steps() -> None:
    """12 steps from 6 frames: changing frame 2 changes steps 4 and 5 alone."""
    head, one = para(6, 12).eval(), features(1)
    other = one.dense.clone()
    other[:, 2] += torch.randn(16, *GRID, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        difference = (head(FeatureMap(other)).heatmap - head(one).heatmap).abs().amax((0, 2, 3))
    assert difference.nonzero().flatten().tolist() == [4, 5]


def test_steps_must_divide_among_frames() -> None:
    with pytest.raises(BadInput, match="n_steps is 8; allowed: multiples of the backbone's 6"):
        para(6, 8)


def test_the_window_counts_in_cells_of_any_shape() -> None:
    """A second maximum three cells away is not averaged in along either axis, whatever a cell's width and height."""
    size, grid = (128, 64), (8, 32)  # cells of 4 x 8 pixels
    for rows, cols in ((3, 0), (0, 3)):
        heatmap = torch.full((1, 1, *grid), -20.0)
        heatmap[0, 0, 2, 5], heatmap[0, 0, 2 + rows, 5 + cols] = 10.0, 9.9
        found = []
        for window in (1.5, 5.0):
            head = ParaHead(ParaConfig(width=16, window=window), 16, 1, 1, grid, size, HEIGHTS, 0.25)
            peak = head.locate(prediction_of(heatmap))
            found.append((peak.pixel[0, 0], float(peak.confidence)))
        torch.testing.assert_close(found[0][0], torch.tensor([22.0, 20.0]), atol=0.2, rtol=0)
        assert found[0][1] < 0.6 < found[1][1]
        assert (found[1][0] - found[0][0]).norm() > 4


def test_impossible_trunks_and_windows_are_named() -> None:
    with pytest.raises(BadInput, match=r"head.para.window is 0.0; allowed: above 0 to 100 grid cells"):
        ParaConfig(window=0.0)
    with pytest.raises(BadInput, match=r"head.para.n_layers is -1; allowed: at least 0"):
        ParaConfig(n_layers=-1)
