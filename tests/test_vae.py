"""The small VAE: an encoder in closed form, a decoder that is trained, and the measure both are judged by."""

import copy

import numpy as np
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from einops import rearrange

from videopolicy.backbones import pipeline
from videopolicy.backbones.backbone import to_pixels
from videopolicy.backbones.pipeline import Architecture
from videopolicy.errors import BadInput
from videopolicy.training.linear_start import principal_patches, start_linear
from videopolicy.training.measures import psnr
from videopolicy.training.vae import DecoderObjective, crop_draws

SIZE = Architecture((64, 64), 4, 4, (32, 32), (False, True), latent_channels=6)


def pictures() -> torch.Tensor:
    """Smooth, colourful pictures of many brightnesses (batch height width 3)."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:64, 0:64] / 64
    found = []
    for _ in range(24):
        base, slope, wave = rng.uniform(40, 215, 3), rng.uniform(-40, 40, (2, 3)), rng.uniform(2, 9)
        ripple = 15 * np.sin(wave * (u + v))[..., None]
        found.append(base + slope[0] * u[..., None] + slope[1] * v[..., None] + ripple)
    return torch.from_numpy(np.stack(found).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def objective() -> DecoderObjective:
    vae = pipeline.create(SIZE, seed=0).vae
    start_linear(vae, pictures())
    return DecoderObjective(vae).eval()


def test_psnr_of_known_errors() -> None:
    one = torch.full((3, 8, 8, 3), 100, dtype=torch.uint8)
    assert psnr(one, one).tolist() == [60.0] * 3
    torch.testing.assert_close(psnr(one + 255 // 10, one)[0], torch.tensor(20.17), rtol=0, atol=0.02)
    assert psnr(one.expand(2, 3, 8, 8, 3), one.expand(2, 3, 8, 8, 3)).shape == (2, 3)


def test_crops_are_inside_and_a_function_of_the_step() -> None:
    corners = torch.cat([crop_draws((128, 64), 32, range(50), 0, step).corner for step in range(20)])
    assert corners.min() >= 0
    assert (corners.max(0).values == torch.tensor([96, 32])).all()
    again = crop_draws((128, 64), 32, range(50), 0, 3)
    assert torch.equal(again.corner, crop_draws((128, 64), 32, range(50), 0, 3).corner)
    assert not torch.equal(again.corner, crop_draws((128, 64), 32, range(50), 0, 4).corner)
    half = crop_draws((128, 64), 32, range(1, 50, 2), 0, 3)
    assert torch.equal(again.corner[1::2], half.corner)
    assert torch.equal(again.seed[1::2], half.seed)
    assert len(set(again.seed.tolist())) == 50


@torch.no_grad()
def test_the_last_steps_are_in_full_precision(objective: DecoderObjective) -> None:
    """Whatever the training's precision; before them it rules."""
    batch = {"frames": pictures()[None, :3]}
    plain, precise = (crop_draws((64, 64), 32, [0], 0, 0, p) for p in (False, True))
    expected = float(objective(batch, plain)["mse"])
    with torch.autocast("cpu", torch.bfloat16):
        assert float(objective(batch, precise)["mse"]) == expected
        assert float(objective(batch, plain)["mse"]) != expected


@torch.no_grad()
def test_latents_are_the_principal_components_of_patches(objective: DecoderObjective) -> None:
    """As computed directly, through all of the encoder's layers, and with unit variance after scaling."""
    pixels = to_pixels(pictures())
    basis, mean, deviation = principal_patches(pictures(), 6)
    patches = rearrange(pixels, "b c (h p) (w q) -> b h w (p q c)", p=4, q=4)
    expected = (patches - mean) @ basis.T / deviation * (deviation.sqrt() / deviation.mean().sqrt())
    latents = rearrange(objective.vae.encode(pixels).latent_dist.mode(), "b c h w -> b h w c")
    strong = deviation > 0.02  # fainter ones are below what single precision keeps beside the constants
    assert strong.sum() >= 3
    error = (latents - expected)[..., strong].square().mean().sqrt() / expected[..., strong].std()
    assert error < 0.1
    scaled = latents * objective.vae.config.scaling_factor
    assert float(scaled.std()) == pytest.approx(1, abs=0.02)


@torch.no_grad()
def test_the_brightness_of_an_even_picture_passes(objective: DecoderObjective) -> None:
    """What normalisations with one or two channels per group would wipe out."""
    grey = torch.tensor([60, 120, 180], dtype=torch.uint8)[:, None, None, None].expand(3, 64, 64, 3)
    inside = objective.reconstruct(grey)[:, 8:-8, 8:-8].float()
    assert (inside.mean((1, 2, 3)) - torch.tensor([60.0, 120, 180])).abs().max() < 6


@torch.no_grad()
def test_a_picture_means_the_same_at_another_size(objective: DecoderObjective) -> None:
    """Latents of a part are those of the whole, away from the cut: training on crops is training on pictures."""
    pixels = to_pixels(pictures()[:4])
    whole = objective.vae.encode(pixels).latent_dist.mode()[:, :, 2:6, 2:6]
    part = objective.vae.encode(pixels[:, :, :32, :32]).latent_dist.mode()[:, :, 2:6, 2:6]
    assert (whole - part).abs().mean() < 0.08 * whole.abs().mean()


def test_training_improves_the_decoder_alone() -> None:
    """Sharp boxes, which smooth colours miss; the encoder's weights stay those of the start, bit for bit."""
    clip, rng = pictures(), np.random.default_rng(1)
    for picture in clip:
        for u, v in rng.integers(0, 52, (6, 2)):
            picture[v : v + 10, u : u + 9] = torch.from_numpy(rng.integers(0, 255, 3).astype(np.uint8))
    vae = pipeline.create(SIZE, seed=0).vae
    start_linear(vae, clip)
    objective, clip = DecoderObjective(vae), clip[:4]
    encoder = {k: v.clone() for k, v in vae.encoder.state_dict().items()}
    with torch.no_grad():
        before = psnr(objective.reconstruct(clip), clip).mean()
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for step in range(40):
        losses = objective({"frames": clip[None]}, crop_draws((64, 64), 32, [0], 0, step))
        torch.testing.assert_close(losses["total"], losses["mse"] + 0.1 * losses["mae"])
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.param_groups[0]["lr"] = 1e-4 * min(1, (step + 1) / 10) * (1 - step / 40)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = psnr(objective.reconstruct(clip), clip).mean()
    assert after > before + 1
    assert all(torch.equal(v, encoder[k]) for k, v in vae.encoder.state_dict().items())


@pytest.mark.parametrize("widths", [(32, 32, 32), (96, 96), (96, 32, 64), (64, 32, 96), (96, 96, 96)])
def test_a_vae_of_another_shape_cannot_start_linear(widths: tuple[int, ...]) -> None:
    vae = pipeline.create(Architecture((64, 64), 4, 4, (32, 32), (False, True), vae_channels=widths), 0).vae
    with pytest.raises(BadInput, match=r"vae_channels is \(.*allowed: \(96, 1"):
        start_linear(vae, pictures())


def test_what_adds_nothing_is_left_out_of_an_encoder(objective: DecoderObjective) -> None:
    """To the bit; and a block that does add something stays."""
    encoder = copy.deepcopy(objective.vae.encoder)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blocks = [m for m in encoder.modules() if isinstance(m, ResnetBlock2D)]
    torch.nn.init.normal_(blocks[1].conv2.weight, std=0.1)
    with torch.no_grad():
        before = encoder(x)
        pipeline.skip_silent(encoder)
        assert [type(m) is ResnetBlock2D for m in blocks] == [i == 1 for i in range(len(blocks))]
        assert torch.equal(encoder(x), before)
