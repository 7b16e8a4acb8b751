"""The diffusion equations against each other and against diffusers."""

import math

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from videopolicy import diffusion
from videopolicy.diffusion import NoiseConfig
from videopolicy.errors import BadInput


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scheduler(n_steps: int) -> EulerDiscreteScheduler:
    """Configured as Stable Video Diffusion's own."""
    reference = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        interpolation_type="linear",
        use_karras_sigmas=True,
        sigma_min=diffusion.SIGMA_MIN,
        sigma_max=diffusion.SIGMA_MAX,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
    )
    reference.set_timesteps(n_steps)
    return reference


def test_the_loss_on_v_is_edms_weighted_loss_on_x0() -> None:
    """lambda(sigma) |D - x0|^2 = |v' - v|^2 for every network output v', lambda = 1 + 1 / sigma^2. EDM table 1."""
    x0, noise, output = (random(64, 5, seed=s).double() for s in range(3))
    sigma = torch.logspace(-2.5, 2.8, 64, dtype=torch.float64)
    D = diffusion.denoised(x0 + sigma[:, None] * noise, output, sigma)
    weighted = (1 + 1 / sigma**2)[:, None] * (D - x0).square()
    torch.testing.assert_close(weighted, (output - diffusion.velocity(x0, noise, sigma)).square(), rtol=1e-9, atol=1e-9)


def test_the_true_velocity_denoises_exactly() -> None:
    x0, noise, sigma = random(8, 5).double(), random(8, 5, seed=1).double(), torch.logspace(-2, 2.8, 8).double()
    x = x0 + sigma[:, None] * noise
    torch.testing.assert_close(diffusion.denoised(x, diffusion.velocity(x0, noise, sigma), sigma), x0)


def test_preconditioning_keeps_unit_variance() -> None:
    """c_in x and the target have variance 1 when x0 and the noise have. EDM, appendix B.6."""
    sigma = torch.logspace(-2, 2.8, 8, dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = diffusion.precondition(sigma)
    torch.testing.assert_close(c_in**2 * (sigma**2 + 1), torch.ones_like(sigma))
    torch.testing.assert_close(((1 - c_skip) ** 2 + c_skip**2 * sigma**2) / c_out**2, torch.ones_like(sigma))
    torch.testing.assert_close(c_noise, sigma.log() / 4)


@pytest.mark.parametrize("n_steps", [2, 12, 25])
def test_noise_levels_equal_diffusers(n_steps: int) -> None:
    reference, ours = scheduler(n_steps), diffusion.karras_sigmas(n_steps)
    torch.testing.assert_close(ours, reference.sigmas, rtol=1e-4, atol=0)
    torch.testing.assert_close(diffusion.precondition(ours[:-1])[3], reference.timesteps, rtol=1e-4, atol=1e-4)


def test_every_step_equals_diffusers() -> None:
    """Clean samples, next samples and scaled inputs along a whole trajectory of random network outputs."""
    reference = scheduler(8)
    x = random(2, 3, 4) * reference.init_noise_sigma
    for i, t in enumerate(reference.timesteps):
        v, sigma, sigma_next = random(2, 3, 4, seed=i + 1), reference.sigmas[i], reference.sigmas[i + 1]
        scaled = reference.scale_model_input(x, t)
        torch.testing.assert_close(diffusion.precondition(sigma)[2] * x, scaled)
        out = reference.step(v, t, x)
        torch.testing.assert_close(diffusion.denoised(x, v, sigma.expand(2)), out.pred_original_sample)
        x = diffusion.euler_step(x, v, sigma, sigma_next)
        torch.testing.assert_close(x, out.prev_sample, rtol=1e-4, atol=1e-4)


def test_sampling_finds_a_gaussian() -> None:
    """With the exact v of data N(3, .5^2), samples have that mean and deviation."""

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        s = sigma[:, None]
        best = 3 + 0.25 / (0.25 + s**2) * (x - 3)
        c_skip, c_out, _, _ = diffusion.precondition(s)
        return (best - c_skip * x) / c_out

    samples = diffusion.sample(network, random(4000, 1).double(), 100)
    assert samples.mean().item() == pytest.approx(3, abs=0.05)
    assert samples.std().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_share_and_range_of_high_noise(share: float) -> None:
    """The rest is log-normal: of its samples about 1 % lie above 80 as well."""
    cfg, n = NoiseConfig(high_share=share), 20_000
    sigma = diffusion.sample_sigma(cfg, n, torch.Generator().manual_seed(0))
    above = 0.5 * math.erfc((math.log(cfg.high_min) - cfg.p_mean) / cfg.p_std / math.sqrt(2))
    measured = (sigma >= cfg.high_min).float().mean().item()
    assert measured == pytest.approx(share + (1 - share) * above, abs=0.012)
    if share == 1:
        assert sigma.max() <= cfg.high_max * (1 + 1e-5)
        middle = math.sqrt(cfg.high_min * cfg.high_max)
        assert (sigma > middle).float().mean().item() == pytest.approx(0.5, abs=0.02)
    if share == 0:
        assert sigma.log().mean().item() == pytest.approx(cfg.p_mean, abs=0.05)
        assert sigma.log().std().item() == pytest.approx(cfg.p_std, abs=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"high_max": 800.0}, "high_max 800.0; allowed: 0 to 700, in order"),
        ({"high_min": 90.0, "high_max": 80.0}, "high_min is 90.0, high_max 80.0"),
        ({"high_share": 1.1}, "high_share is 1.1; allowed: 0 to 1"),
        ({"p_std": 0.0}, "p_std 0.0; allowed: finite, p_std above 0"),
        ({"p_mean": math.nan}, "p_mean is nan"),
    ],
)
def test_noise_outside_the_models_range_is_refused(change: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        NoiseConfig(**change)
