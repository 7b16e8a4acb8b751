"""EDM in its v-prediction form, as Stable Video Diffusion was trained: preconditioning, noise levels, targets, sampler.

Karras et al. 2022 ("EDM"), table 1 and equation 7, with sigma_data = 1. `network` below is F in EDM's equation 7.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from videopolicy.errors import BadInput

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0


@dataclass(frozen=True)
class NoiseConfig:
    """Noise levels in training: a log-normal share, and a share of high noise, where a policy reads its features."""

    p_mean: float = 0.7  # ln sigma ~ N(p_mean, p_std^2)
    p_std: float = 1.6
    high_share: float = 0.1  # of samples have ln sigma uniform over [ln high_min, ln high_max] instead
    high_min: float = 80.0
    high_max: float = 700.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p_mean) and 0 < self.p_std < math.inf):
            raise BadInput(f"noise.p_mean is {self.p_mean}, p_std {self.p_std}; allowed: finite, p_std above 0")
        if not 0 <= self.high_share <= 1:
            raise BadInput(f"noise.high_share is {self.high_share}; allowed: 0 to 1")
        if not 0 < self.high_min <= self.high_max <= SIGMA_MAX:
            raise BadInput(
                f"noise.high_min is {self.high_min}, high_max {self.high_max}; allowed: 0 to {SIGMA_MAX:g}, in order"
            )


def precondition(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in and c_noise of a noise level."""
    c_skip = 1 / (sigma**2 + 1)
    c_out = -sigma / (sigma**2 + 1).sqrt()
    c_in = 1 / (sigma**2 + 1).sqrt()
    return c_skip, c_out, c_in, 0.25 * sigma.log()


def like(sigma: Shaped[Tensor, " batch"], x: Tensor) -> Tensor:
    """Per-sample values shaped to multiply a batch."""
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def velocity(x0: Tensor, noise: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
    """The network's target v = (noise - sigma x0) / sqrt(sigma^2 + 1)."""
    s = like(sigma, x0)
    return (noise - s * x0) / (s**2 + 1).sqrt()


def denoised(x: Tensor, v: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
    """The clean sample that a network output v means: c_skip x + c_out v. EDM equation 7."""
    c_skip, c_out, _, _ = precondition(like(sigma, x))
    return c_skip * x + c_out * v


def sample_sigma(cfg: NoiseConfig, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Noise levels of a training batch."""
    normal, uniform, choice = (f(n, generator=generator) for f in (torch.randn, torch.rand, torch.rand))
    low = (cfg.p_mean + cfg.p_std * normal).exp()
    high = (math.log(cfg.high_min) + uniform * math.log(cfg.high_max / cfg.high_min)).exp()
    return torch.where(choice < cfg.high_share, high, low)


def karras_sigmas(n: int) -> Float[Tensor, " n_plus_1"]:
    """Sampling noise levels, high to low, and a final 0. EDM equation 5."""
    ramp = torch.linspace(0, 1, n)
    top, bottom = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return torch.cat([(top + ramp * (bottom - top)) ** RHO, torch.zeros(1)])


def euler_step(x: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One deterministic step from sigma to sigma_next. EDM algorithm 1 without its second-order correction."""
    slope = (x - denoised(x, v, sigma.expand(len(x)))) / sigma
    return x + slope * (sigma_next - sigma)


def sample(network: Callable[[Tensor, Tensor], Tensor], noise: Tensor, n_steps: int) -> Tensor:
    """Draw samples: `network(x, sigma)` returns v for noisy x; `noise` is standard normal."""
    sigmas = karras_sigmas(n_steps).to(noise.device)
    x = noise * (sigmas[0] ** 2 + 1).sqrt()
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        x = euler_step(x, network(x, sigma.expand(len(x))), sigma, sigma_next)
    return x
