"""What the video model's two stages minimise."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.batch import Counts
from videopolicy.diffusion import NoiseConfig, like, sample_sigma, velocity
from videopolicy.heads.coordinates import CoordinateHead
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import HeatmapHead
from videopolicy.training.balance import Balance, LossBalance
from videopolicy.training.distill import Readout
from videopolicy.training.objective import Objective
from videopolicy.training.randomness import drawn

DROPOUT = 0.1  # conditioning is dropped as in SVD: 10 % embedding only, 10 % both, 10 % image latent only


@dataclass(frozen=True)
class Draws:
    """Everything random about samples of one training step; see `randomness.py`."""

    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frame channel row col"]
    augmentation: Float[Tensor, " batch"]
    pixel_noise: Float[Tensor, "batch 3 height width"]
    dropout: Float[Tensor, " batch"]
    posterior: Float[Tensor, "batch frame channel row col"] | None = None  # of targets that are sampled

    def to(self, device: torch.device) -> "Draws":
        values = (getattr(self, f.name) for f in fields(self))
        return Draws(*(None if x is None else x.to(device) for x in values))  # type: ignore[arg-type]


def draw(cfg: NoiseConfig, places: Sequence[int], backbone: SVDBackbone, seed: int, step: int) -> Draws:
    """The draws of samples at these places of a step's batch."""
    width, height = backbone.cfg.image_size
    live, sampled = float(backbone.cfg.augmentation == "live"), backbone.cfg.targets == "sample"
    shape = (1, *tuple(backbone.feature_noise.shape))

    def one(generator: torch.Generator) -> Draws:
        return Draws(
            sigma=sample_sigma(cfg, 1, generator),
            noise=torch.randn(shape, generator=generator),
            augmentation=(torch.randn(1, generator=generator) * 0.5 - 3).exp() * live,
            pixel_noise=torch.randn(1, 3, height, width, generator=generator),
            dropout=torch.rand(1, generator=generator),
            posterior=torch.randn(shape, generator=generator) if sampled else None,
        )

    return drawn(one, seed, step, places)


class VideoObjective(Objective):
    """Stage one: predict v of noised clips from their first frame; in pretraining also what an image network sees.

    The readout learns from the samples that a policy's are like: noise of at least `read_sigma_min`, condition kept.
    """

    def __init__(
        self, backbone: SVDBackbone, readout: Readout | None = None, weight: float = 0.0, read_sigma_min: float = 80.0
    ) -> None:
        super().__init__()
        self.backbone, self.readout = backbone, readout
        self.weight, self.read_sigma_min = weight, read_sigma_min

    def counted(self, batch: dict[str, Tensor], draws: Draws) -> Counts:
        n = self._reading(draws).sum().float()
        return Counts(torch.zeros_like(n), n)

    def _reading(self, draws: Draws) -> Bool[Tensor, " batch"]:
        return (draws.sigma >= self.read_sigma_min) & kept_image(draws)

    def forward(self, batch: dict[str, Tensor], draws: Draws, counts: Counts | None = None) -> dict[str, Tensor]:
        x0, x, condition = noised(self.backbone, batch, draws, torch.zeros_like(draws.sigma, dtype=torch.bool))
        v, blocks = self.backbone.denoise_and_read(x, draws.sigma, condition)
        diffusion = diffusion_loss(v, x0, draws)
        if self.readout is None:
            return {"diffusion": diffusion, "total": diffusion}
        nowhere = torch.full_like(batch["start_pixel"], torch.nan)  # no actions, no start
        features = self.backbone.features(blocks, nowhere)
        count = counts.samples if counts else None
        distill = self.readout.error(features, batch["teacher"], self._reading(draws), count)
        return {"diffusion": diffusion, "distill": distill, "total": diffusion + self.weight * distill}


class JointObjective(Objective):
    """Stage two: the diffusion loss and the head's losses from one forward.

    The true future is inside the noisy latents, so head losses count only samples with sigma >= `head_sigma_min`,
    where noise has drowned it; those samples keep their conditioning, and, with `fixed_noise`, get the one noise
    sample that the policy will act with. A video model that is frozen has no loss: its pass ends where a head reads,
    and the future may be `hidden` from it: it then sees the noise alone, as when it acts.
    """

    def __init__(
        self,
        backbone: SVDBackbone,
        head: HeatmapHead | CoordinateHead,
        head_sigma_min: float,
        fixed_noise: bool,
        loss_balance: Balance,
        hidden: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.hidden = backbone, head, hidden
        self.head_sigma_min, self.fixed_noise = head_sigma_min, fixed_noise
        self.video = ("diffusion",) if backbone.unet_parameters() else ()
        self.balance = LossBalance(loss_balance, (*self.video, *head.terms))

    def counted(self, batch: dict[str, Tensor], draws: Draws) -> Counts:
        return self._targets(batch, draws).count()

    def _targets(self, batch: dict[str, Tensor], draws: Draws) -> Targets:
        return Targets.of(batch).where(draws.sigma >= self.head_sigma_min)

    def forward(self, batch: dict[str, Tensor], draws: Draws, counts: Counts | None = None) -> dict[str, Tensor]:
        reading = draws.sigma >= self.head_sigma_min
        if self.fixed_noise:
            noise = torch.where(like(reading, draws.noise), self.backbone.feature_noise, draws.noise)
            draws = replace(draws, noise=noise)
        x0, x, condition = noised(self.backbone, batch, draws, reading)
        losses = {}
        if self.video:
            v, blocks = self.backbone.denoise_and_read(x, draws.sigma, condition)
            losses["diffusion"] = diffusion_loss(v, x0, draws)
        else:
            seen = like(draws.sigma, x) * draws.noise if self.hidden else x
            blocks = self.backbone.read(seen, draws.sigma, condition)
        features = self.backbone.features(blocks, batch["start_pixel"])
        losses |= self.head.loss(self.head(features), replace(self._targets(batch, draws), counts=counts))
        return {**losses, "total": self.balance(losses)}


def kept_image(draws: Draws) -> Bool[Tensor, " batch"]:
    """Samples whose conditioning latent is not dropped."""
    return (draws.dropout < DROPOUT) | (draws.dropout >= 3 * DROPOUT)


def noised(
    backbone: SVDBackbone, batch: dict[str, Tensor], draws: Draws, keep: Bool[Tensor, " batch"]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Clean latents, noisy ones, and the conditioning, which is never dropped where `keep`."""
    first = backbone.pixels(batch["frames"][:, 0])
    x0 = clean(backbone, batch, draws)
    keep_embedding, keep_image = (keep | (draws.dropout >= 2 * DROPOUT)).float(), (keep | kept_image(draws)).float()
    latent, embedding = None, batch["embeddings"][:, 0] if "embeddings" in batch else None
    if backbone.cfg.augmentation == "none" and "posterior" in batch:
        latent = batch["posterior"][:, 0].chunk(2, 1)[0]
    condition = backbone.condition(
        first, draws.augmentation, draws.pixel_noise, keep_image, keep_embedding, latent, embedding
    )
    return x0, x0 + like(draws.sigma, x0) * draws.noise, condition


def clean(
    backbone: SVDBackbone, batch: dict[str, Tensor], draws: Draws
) -> Float[Tensor, "batch frame channel row col"]:
    """Scaled latents to learn: the posterior's mode, or a sample where `draws` has its noise."""
    if "posterior" in batch:
        mean, log_variance = batch["posterior"].chunk(2, 2)
    else:
        b = len(batch["frames"])
        flat = backbone.posterior(rearrange(backbone.pixels(batch["frames"]), "b t c h w -> (b t) c h w"))
        mean, log_variance = rearrange(flat, "(b t) c h w -> b t c h w", b=b).chunk(2, 2)
    if draws.posterior is not None:
        mean = mean + (0.5 * log_variance).exp() * draws.posterior
    return mean * backbone.vae.config.scaling_factor


def diffusion_loss(v: Tensor, x0: Tensor, draws: Draws) -> Float[Tensor, ""]:
    """Mean squared error of the network's v."""
    return (v - velocity(x0, draws.noise, draws.sigma)).square().mean()
