"""What all heads keep to: masks, scales and metres."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_heads import GRID, LABELS, SIZE, SMALL, Shape, changed, every_head, features, regression, targets
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap, Pyramid, splat
from videopolicy.batch import settle
from videopolicy.camera import Camera
from videopolicy.heads.choice import make_head
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.head import Standardised


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


@every_head
def test_a_head_is_told_where_the_start_keypoint_is(camera: Camera, make: object) -> None:
    """In the same picture, marked alike at one cell and at another: a head that only averages would say the same."""
    head, labels, dense = make(), targets(camera, 1), features(1).dense
    mark = 30 * torch.randn(16, 1, 1, generator=torch.Generator().manual_seed(1))

    def loss(at: tuple[float, float]) -> float:
        start = splat(torch.tensor([at]), SIZE, *GRID)
        return float(sum(head.loss(head(FeatureMap(dense + start * mark, start=start)), labels).values()))

    cell_u, cell_v = SIZE[0] / GRID[1], SIZE[1] / GRID[0]
    here, there = loss((2.5 * cell_u, 2.5 * cell_v)), loss((5.5 * cell_u, 4.5 * cell_v))
    assert abs(here - there) > 5e-7 * here  # a new heatmap is nearly even; rounding is 1e-7


def test_the_start_keypoint_is_told_to_scale() -> None:
    """The picture's corners are at -1 and 1; a keypoint outside is nowhere, not in the middle."""
    at = torch.tensor([[0.3 * SIZE[0], 0.6 * SIZE[1]], [torch.nan, torch.nan]])
    told = FeatureMap(features(2).dense, start=splat(at, SIZE, *GRID)).keypoint
    torch.testing.assert_close(told, torch.tensor([[-0.4, 0.2, 1.0], [0.0, 0.0, 0.0]]))


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


def test_channels_are_standardised_by_what_training_showed() -> None:
    """Whatever the scale of a channel; what is seen in use changes nothing, and a checkpoint keeps it."""
    layer, scale = Standardised(3), torch.tensor([0.5, 20.0, 3.0])[:, None, None]
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        layer(torch.randn(8, 3, 6, 6, generator=draw) * scale + 4 * scale)
        layer.settle()
    layer.eval()
    x = torch.randn(64, 3, 6, 6, generator=draw) * scale + 4 * scale
    out = layer(x)
    assert out.mean((0, 2, 3)).abs().max() < 0.1
    assert (out.std((0, 2, 3)) - 1).abs().max() < 0.1
    layer(100 * x)
    other = Standardised(3).eval()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), out)


@pytest.mark.parametrize("name", ["para", "regression", "attention_pool", "spatial_softmax", "tracks"])
def test_features_may_be_read_as_they_are(name: str) -> None:
    """Nothing is then learned of their scale, on which what a head makes of them depends."""
    heads = {}
    for standardise in (True, False):
        torch.manual_seed(0)
        head = make_head(replace(SMALL, kind=name, standardise=standardise), Shape(), LABELS, 4)
        head(FeatureMap(20 * features().dense + 3))
        settle(head)
        heads[standardise] = next(part for part in head.modules() if isinstance(part, Standardised))
    assert heads[True].mean.min() > 2
    assert heads[False].n_seen == 0
    x = 20 * features().dense[0] + 3
    assert torch.equal(heads[False](x), x / heads[False].scale[:, None, None])


def pyramid(dtype: torch.dtype = torch.float64) -> Pyramid:
    """Two levels, one coarser than the head's grid and one finer, not square; a start in one of the samples."""
    draw = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 6, n, rows, cols, generator=draw) for n, rows, cols in ((10, 5, 7), (6, 20, 24))]
    levels = [(3 * x + 5).to(dtype).requires_grad_() for x in levels]
    start = torch.zeros(2, 1, *GRID)
    start[0, 0, 3, 4], start[0, 0, 3, 5] = 0.25, 0.75
    mark = torch.randn(16, generator=draw).to(dtype).requires_grad_()
    return Pyramid(tuple(levels), start.to(dtype), mark)


def both_ways(compute: Callable, parameters: list[Tensor], dtype: torch.dtype) -> list[tuple]:
    """What is computed of levels, and of what they are when resized; with gradients."""
    found: list[tuple] = []
    for source in (pyramid(dtype), pyramid(dtype)):
        out = compute(FeatureMap(source.dense, start=source.start) if found else source)
        wanted = [*source.levels, source.mark, *parameters]
        found.append((out, torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)))
    return found


def shown(module: nn.Module) -> None:
    """As if training had shown it such features."""
    draw = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, Standardised):
            part.mean.copy_(torch.randn(16, generator=draw) + 5)
            part.std.copy_(torch.rand(16, generator=draw) + 2)


def test_levels_are_mapped_before_they_are_resized() -> None:
    """Which changes neither a map nor a gradient, beyond rounding in double precision."""
    embedding = Embedding(16, 8).double().eval()
    shown(embedding)
    one, other = both_ways(embedding, list(embedding.parameters()), torch.float64)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)


@every_head
def test_every_head_reads_levels(camera: Camera, make: object) -> None:
    """As it reads what they are when resized."""
    head, labels = make(), targets(camera, 2)
    shown(head)

    def loss(given: FeatureMap) -> Tensor:
        return torch.stack(list(head.loss(head(given), labels).values()))

    one, other = both_ways(loss, list(head.parameters()), torch.float32)
    torch.testing.assert_close(one[0], other[0], rtol=1e-5, atol=1e-5)
    for a, b in zip(one[1], other[1], strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a - b).norm() <= 1e-4 * b.norm() + 1e-6


def test_statistics_of_levels_are_their_own() -> None:
    """In training, channel by channel, whatever size each level has."""
    embedding = Embedding(16, 8)
    levels = pyramid(torch.float32)
    embedding(levels)
    settle(embedding)
    expected = torch.cat([x.mean((0, 1, 3, 4)) for x in levels.levels])
    torch.testing.assert_close(embedding[0].mean, expected.detach(), rtol=1e-5, atol=1e-5)
