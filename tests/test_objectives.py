"""What a step draws of its samples, and what of them it drops."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.diffusion import NoiseConfig, velocity
from videopolicy.training.objectives import Draws, VideoObjective, diffusion_loss, draw, noised
from videopolicy.training.optimizer import check_groups, make_optimizer
from videopolicy.training.setup import TrainConfig

N = 20


@pytest.fixture(scope="module")
def backbone(pipeline_folder: Path) -> SVDBackbone:
    return SVDBackbone(SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8), 4)


def batch(backbone: SVDBackbone) -> dict[str, Tensor]:
    """Clips as they come from the cache."""
    generator = torch.Generator().manual_seed(0)
    channels = 2 * backbone.vae.config.latent_channels
    return {
        "frames": torch.randint(0, 256, (N, 1, 64, 64, 3), generator=generator, dtype=torch.uint8),
        "posterior": torch.randn(N, 4, channels, *backbone.latent_size, generator=generator),
        "embeddings": torch.randn(N, 4, 64, generator=generator),
    }


def draws_of(backbone: SVDBackbone) -> Draws:
    """With dropout's number at even steps from 0 to 1."""
    draws = draw(NoiseConfig(), range(N), backbone, 0, 0)
    draws.dropout.copy_((torch.arange(N) + 0.5) / N)
    return draws


@torch.no_grad()
def test_conditioning_is_dropped_in_three_ways(backbone: SVDBackbone) -> None:
    """The embedding alone, both, the latent alone, of a tenth of the samples each; where a head reads, nothing."""
    draws, nowhere = draws_of(backbone), torch.zeros(N, dtype=torch.bool)
    _, _, condition = noised(backbone, batch(backbone), draws, nowhere)
    kept = [(x.any().item(), y.any().item()) for x, y in zip(condition["embedding"], condition["latent"], strict=True)]
    assert kept == [(False, True)] * 2 + [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)] * 14
    _, _, condition = noised(backbone, batch(backbone), draws, ~nowhere)
    assert all(x.any() and y.any() for x, y in zip(condition["embedding"], condition["latent"], strict=True))


@torch.no_grad()
def test_the_loss_is_of_what_the_network_should_have_said(backbone: SVDBackbone) -> None:
    draws, given = draws_of(backbone), batch(backbone)
    x0, x, condition = noised(backbone, given, draws, torch.zeros(N, dtype=torch.bool))
    torch.testing.assert_close(x, x0 + draws.sigma.reshape(-1, 1, 1, 1, 1) * draws.noise)
    v = backbone.denoise(x, draws.sigma, condition)
    expected = (v - velocity(x0, draws.noise, draws.sigma)).square().mean()
    assert VideoObjective(backbone).eval()(given, draws)["total"] == pytest.approx(float(expected), rel=1e-4)
    assert diffusion_loss(velocity(x0, draws.noise, draws.sigma), x0, draws) == 0


def test_every_sample_has_its_own_noise_on_its_first_picture(backbone: SVDBackbone) -> None:
    """ln strength ~ N(-3, 0.5^2), independent of the level; a third of dropout's numbers in any third."""
    found = draw(NoiseConfig(), range(2000), backbone, 0, 0)
    strength = found.augmentation.log()
    assert strength.mean().item() == pytest.approx(-3, abs=0.05)
    assert strength.std().item() == pytest.approx(0.5, abs=0.03)
    assert len(found.augmentation.unique()) > 1990
    assert abs(torch.corrcoef(torch.stack([strength, found.sigma.log()]))[0, 1]) < 4 / math.sqrt(2000)
    assert found.dropout.histc(3, 0, 1).div(2000).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)


def test_a_parameter_that_no_group_trains_is_noticed() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    groups = {"first": (list(network[0].parameters()), 1e-3), "second": ([network[1].weight], 1e-4)}
    optimizer = make_optimizer(groups, TrainConfig())
    with pytest.raises(AssertionError, match=r"1\.bias is trained by no group"):
        check_groups(network, optimizer)
    network[1].bias.requires_grad_(False)
    check_groups(network, optimizer)
    groups["second"] = (list(network.parameters()), 1e-4)
    with pytest.raises(AssertionError, match="a parameter stands in two groups"):
        make_optimizer(groups, TrainConfig())
