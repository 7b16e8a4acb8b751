"""What the VAE is trained for, and the measure it is judged by."""

import numpy as np
import pytest
import torch
from builders import TOY

from videopolicy.backbones import pipeline
from videopolicy.training.vae import VaeObjective, crop_draws, psnr, to_pixels


@pytest.fixture
def frames() -> torch.Tensor:
    """Smooth clips (batch frame height width 3)."""
    v, u, t = np.mgrid[0:64, 0:64, 0:4].astype(float)
    clip = np.stack([2 * u, 3 * v, 128 + 20 * np.sin(u / 7 + t)], -1).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(np.moveaxis(clip, 2, 0).copy())[None].repeat(2, 1, 1, 1, 1)


def test_psnr_of_known_errors(frames: torch.Tensor) -> None:
    one = torch.full((3, 8, 8, 3), 100, dtype=torch.uint8)
    assert psnr(one, one).tolist() == [60.0] * 3
    torch.testing.assert_close(psnr(one + 255 // 10, one)[0], torch.tensor(20.17), rtol=0, atol=0.02)
    assert psnr(frames, frames).shape == (2, 4)


def test_crops_are_inside_and_a_function_of_the_step() -> None:
    corners = torch.cat([crop_draws((128, 64), 32, 50, 0, step, 0).corner for step in range(20)])
    assert corners.min() >= 0
    assert (corners.max(0).values == torch.tensor([96, 32])).all()
    again = crop_draws((128, 64), 32, 50, 0, 3, 0)
    assert torch.equal(again.corner, crop_draws((128, 64), 32, 50, 0, 3, 0).corner)
    assert not torch.equal(again.corner, crop_draws((128, 64), 32, 50, 0, 4, 0).corner)
    assert again.seed != crop_draws((128, 64), 32, 50, 0, 3, 1).seed


def test_training_lowers_the_error_of_pictures(frames: torch.Tensor) -> None:
    """Sixty steps on crops: whole pictures come back better, and the divergence from a normal stays finite."""
    vae = pipeline.create(TOY, seed=0).vae
    objective = VaeObjective(vae, kl_weight=1e-5)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3)
    with torch.no_grad():
        before = psnr(objective.reconstruct(frames[0]), frames[0]).mean()
    for step in range(60):
        losses = objective({"frames": frames}, crop_draws((64, 64), 32, 2, 0, step, 0))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    with torch.no_grad():
        after = psnr(objective.reconstruct(frames[0]), frames[0]).mean()
    assert after > before + 6
    assert 0 < float(losses["kl"].detach()) < 100
    assert objective.latent_deviation(frames[0]) > 0


def test_loss_terms_are_what_they_say(frames: torch.Tensor) -> None:
    objective = VaeObjective(pipeline.create(TOY, seed=0).vae, kl_weight=0.5)
    draws = crop_draws((64, 64), 64, 2, 0, 0, 0)
    losses = objective({"frames": frames}, draws)
    expected = losses["mse"] + 0.1 * losses["mae"] + 0.5 * losses["kl"]
    torch.testing.assert_close(losses["total"], expected)
    posterior = objective.vae.encode(to_pixels(frames).flatten(0, 1)).latent_dist
    torch.testing.assert_close(losses["kl"], posterior.kl().mean() / posterior.mean[0].numel())
