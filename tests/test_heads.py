"""What all heads keep to: masks, scales and metres."""

import numpy as np
import pytest
import torch
from small_heads import changed, every_head, features, regression, targets

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
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
