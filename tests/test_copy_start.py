"""What is carried through a network in closed form comes out, whatever the picture's brightness."""

import torch

from videopolicy.backbones import pipeline
from videopolicy.backbones.carried import SCALE, WIDTH, group, read
from videopolicy.backbones.copy_start import start_copying
from videopolicy.backbones.pipeline import Architecture

SMALL = Architecture((32, 32), 3, 4, (96, 32), (False, True), vae_channels=(32, 32, 32))


def test_a_carried_signal_survives_a_normalisation() -> None:
    """Also its mean, which the normalisation takes away, and also beside channels that hold anything else."""
    torch.manual_seed(0)
    shortcut, norm, out = torch.nn.Conv2d(5, WIDTH, 1), torch.nn.GroupNorm(32, WIDTH), torch.nn.Conv2d(WIDTH, 4, 3)
    with torch.no_grad():
        group(shortcut, [1, 2])
        out.weight.zero_()
        out.bias.zero_()
        read(norm, out, 2, 2)
        x = SCALE * torch.randn(6, 5, 9, 9)
        x[:, 1] += SCALE * torch.linspace(-2, 2, 6)[:, None, None]
        y = out(torch.nn.functional.silu(norm(shortcut(x))))
    torch.testing.assert_close(y[:, :2], x[:, 1:3, 1:-1, 1:-1] / SCALE, rtol=0.1, atol=0.15)
    assert not y[:, 2:].any()


@torch.no_grad()
def test_a_wide_unet_starts_by_copying_the_condition() -> None:
    """v is minus the scaled conditioning latent in every frame; everything else is as it was drawn."""
    unet = pipeline.create(SMALL, seed=0).unet.eval()
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    assert start_copying(unet, scaling_factor=0.5)
    n = SMALL.latent_channels
    generator = torch.Generator().manual_seed(0)
    condition = 2 * torch.randn(2, 1, n, 8, 8, generator=generator) + torch.randn(2, 1, n, 1, 1, generator=generator)
    noisy = torch.randn(2, 3, n, 8, 8, generator=generator)
    inputs = torch.cat([noisy, condition.expand_as(noisy)], 2)
    v = unet(inputs, torch.ones(2), torch.randn(2, 1, 64, generator=generator), torch.ones(2, 3)).sample
    assert (v + 0.5 * condition).abs().mean() < 0.05 * (0.5 * condition).abs().mean()
    changed = {k for k, x in unet.state_dict().items() if not torch.equal(x, before[k])}
    assert {k.split(".")[0] for k in changed} == {"conv_in", "up_blocks", "conv_norm_out", "conv_out"}


def test_a_narrow_unet_is_left_as_it_is() -> None:
    unet = pipeline.create(Architecture((32, 32), 3, 4, (32, 32), (False, True), vae_channels=(32, 32, 32)), 0).unet
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    assert not start_copying(unet, 1.0)
    assert all(torch.equal(v, before[k]) for k, v in unet.state_dict().items())
