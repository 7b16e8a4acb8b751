"""Heads: equivariance, round trips, masks and axes."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from builders import agentview
from einops import rearrange
from torch import Tensor

from bench import naive
from videopolicy.backbones.backbone import FeatureMap
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.errors import BadInput
from videopolicy.heads.act import ActConfig
from videopolicy.heads.attention_pool import AttentionPoolConfig
from videopolicy.heads.choice import HeadConfig, HeadKind, make_head
from videopolicy.heads.coordinates import CoordinateHead
from videopolicy.heads.head import Standardised, Targets
from videopolicy.heads.para import ParaConfig, ParaHead, ParaPrediction
from videopolicy.heads.regression import RegressionConfig, RegressionHead
from videopolicy.heads.spatial_softmax import SpatialSoftmaxConfig
from videopolicy.heads.tracks import TracksConfig

SIZE, GRID, CELL = (224, 224), (28, 28), 8
HEIGHTS = Bins(-0.02, 0.33, 32)


def para(n_frames: int = 6, n_steps: int = 6, channels: int = 16, **options: object) -> ParaHead:
    torch.manual_seed(0)
    return ParaHead(ParaConfig(width=16, **options), channels, n_frames, n_steps, GRID, SIZE, HEIGHTS, 0.25)


def joint() -> ParaHead:
    return para(volume_loss="joint")


def rotating() -> ParaHead:
    return para(n_rotation=24, gripper_head="indexed_mlp")


def prediction_of(heatmap: Tensor) -> ParaPrediction:
    """A factored prediction that says nothing but where."""
    return ParaPrediction(heatmap[:, :, None], heatmap.new_zeros(len(heatmap), 1, 1, *heatmap.shape[-2:]), {})


def regression(mean: tuple = (0.0, 0.0, 0.0), std: tuple = (1.0, 1.0, 1.0)) -> RegressionHead:
    torch.manual_seed(0)
    return RegressionHead(RegressionConfig(width=16), 16, 6, 6, torch.tensor(mean), torch.tensor(std), 0.25)


@dataclass(frozen=True)
class Shape:
    """What a head asks a backbone."""

    feature_channels: int = 16
    n_feature_frames: int = 6
    grid: tuple[int, int] = GRID
    image_size: tuple[int, int] = SIZE

    def forward(self, images: Tensor, start_pixel: Tensor) -> FeatureMap:
        raise NotImplementedError


SMALL = HeadConfig(
    n_steps=6,
    para=ParaConfig(width=16),
    regression=RegressionConfig(16),
    attention_pool=AttentionPoolConfig(16, 2),
    spatial_softmax=SpatialSoftmaxConfig(4, 16),
    tracks=TracksConfig(AttentionPoolConfig(16, 2), 16),
    act=ActConfig(16, 32, 2, 1, 1, 4),
)
LABELS = {"height": (0.0, 0.3), "position_mean": [-0.2, 0.0, 0.15], "position_std": [0.1, 0.15, 0.1]}


def kind(name: str) -> Callable[[], ParaHead | CoordinateHead]:
    """What makes a small head of that kind; in evaluation mode, so that nothing is drawn."""

    def make() -> ParaHead | CoordinateHead:
        torch.manual_seed(0)
        return make_head(replace(SMALL, kind=name), Shape(), LABELS, 4).eval()

    return make


KINDS = [*(kind(k) for k in HeadKind.__args__), joint, rotating]
every_head = pytest.mark.parametrize("make", KINDS, ids=[*HeadKind.__args__, "joint", "rotating"])


def features(n: int = 2, frames: int = 6) -> FeatureMap:
    return FeatureMap(torch.randn(n, frames, 16, *GRID, generator=torch.Generator().manual_seed(0)))


def targets(camera: Camera, n: int = 4, steps: int = 6) -> Targets:
    """Waypoints over the table with their true pixels, all inside the image."""
    rng = np.random.default_rng(0)
    position = rng.uniform([-0.35, -0.25, 0.0], [0.0, 0.25, 0.3], (n, steps, 3))
    pixel = camera.project(position)
    assert camera.contains(pixel).all()
    gripper = rng.integers(0, 2, (n, steps)).astype(float)
    numbers = (torch.from_numpy(x).float() for x in (pixel, position[..., 2], gripper, position))
    rotation = torch.from_numpy(rng.uniform(-np.pi, np.pi, (n, steps, 3))).float()
    return Targets(*numbers, torch.ones(n, steps, dtype=torch.bool), rotation)


def changed(labels: Targets, at: Tensor, value: float) -> Targets:
    """The same labels with every number replaced by `value` where `at`, and invalid there."""
    fill = {name: getattr(labels, name).clone() for name in ("pixel", "height", "gripper", "position", "rotation")}
    for x in fill.values():
        x[at] = value
    return Targets(**fill, valid=labels.valid & ~at)


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
        its = Targets(*(getattr(labels, f.name)[:, window] for f in fields(Targets)))
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


@every_head
@pytest.mark.parametrize("value", [0.0, 1e4, float("nan")])
def test_invalid_steps_do_not_count(camera: Camera, make: object, value: float) -> None:
    """Neither loss nor gradient depends on what stands in a masked step; masking is not the same as counting."""
    head, labels = make(), targets(camera, 2)
    masked = torch.zeros(2, 6, dtype=torch.bool)
    masked[0, 2:], masked[1, 5] = True, True
    results = []
    for use in (changed(labels, masked, 0.3), changed(labels, masked, value)):
        head.zero_grad()
        loss = head.loss(head(features()), use)
        sum(loss.values()).backward()
        results.append((loss, [p.grad.clone() for p in head.parameters()]))
    torch.testing.assert_close(results[0], results[1])
    whole = head.loss(head(features()), labels)
    assert any(not torch.isclose(whole[k], results[0][0][k]) for k in whole)


@every_head
def test_a_batch_without_valid_steps_costs_nothing(camera: Camera, make: object) -> None:
    """Zero loss and zero, finite gradients."""
    head, labels = make(), targets(camera, 2)
    loss = head.loss(head(features()), labels.where(torch.zeros(2, dtype=torch.bool)))
    assert all(value == 0 for value in loss.values())
    sum(loss.values()).backward()
    assert all((p.grad == 0).all() for p in head.parameters())


@every_head
def test_a_network_gone_nan_is_not_hidden(camera: Camera, make: object) -> None:
    """Masking removes labels, never the sign that the prediction itself has broken."""
    head = make()
    loss = head.loss(head(FeatureMap(features().dense * float("nan"))), targets(camera, 2))
    assert all(value.isnan() for name, value in loss.items() if name != "kl")  # which knows the labels alone


def test_each_frame_predicts_its_own_steps() -> None:
    """12 steps from 6 frames: changing frame 2 changes steps 4 and 5 alone."""
    head, one = para(6, 12).eval(), features(1)
    other = one.dense.clone()
    other[:, 2] += torch.randn(16, *GRID, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        difference = (head(FeatureMap(other)).heatmap - head(one).heatmap).abs().amax((0, 2, 3))
    assert difference.nonzero().flatten().tolist() == [4, 5]


def test_regression_decodes_metres(camera: Camera) -> None:
    """Zero is the mean position, one a standard deviation; no pixels are claimed."""
    head = regression((-0.2, 0.05, 0.1), (0.1, 0.2, 0.05))
    prediction = torch.zeros(2, 6, 4)
    prediction[1, :, :3], prediction[1, :, 3] = 1.0, 20.0
    first, second = head.decode(prediction, [camera, camera])
    np.testing.assert_allclose(first.position, np.tile([-0.2, 0.05, 0.1], (6, 1)), atol=1e-6)
    np.testing.assert_allclose(second.position, np.tile([-0.1, 0.25, 0.15], (6, 1)), atol=1e-6)
    np.testing.assert_allclose([first.gripper[0], second.gripper[0]], [0.5, 1.0], atol=1e-6)
    assert first.pixel is None


def test_steps_must_divide_among_frames() -> None:
    with pytest.raises(BadInput, match="n_steps is 8; allowed: multiples of the backbone's 6"):
        para(6, 8)


def test_channels_are_standardised_by_what_training_showed() -> None:
    """Whatever the scale of a channel; what is seen in use changes nothing, and a checkpoint keeps it."""
    layer, scale = Standardised(3), torch.tensor([0.5, 20.0, 3.0])[:, None, None]
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        layer(torch.randn(8, 3, 6, 6, generator=draw) * scale + 4 * scale)
    layer.eval()
    x = torch.randn(64, 3, 6, 6, generator=draw) * scale + 4 * scale
    out = layer(x)
    assert out.mean((0, 2, 3)).abs().max() < 0.1
    assert (out.std((0, 2, 3)) - 1).abs().max() < 0.1
    layer(100 * x)
    other = Standardised(3).eval()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), out)


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
