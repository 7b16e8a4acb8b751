"""What a video model's features can learn from an image network: where things are, now and in the frame to come.

A small UNet, trained on video alone, predicts frames without features that a head could read. Asking its features for
those of a network with ImageNet weights, linearly, gives it what the published SVD has from millions of videos.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap, to_pixels
from videopolicy.backbones.image import Lite0Features
from videopolicy.batch import masked_mean
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import make_folder, replace
from videopolicy.data.splits import spread
from videopolicy.errors import BadInput
from videopolicy.training.cache import attach

N_BASIS = 128  # frames that the principal components are taken from


@dataclass(frozen=True)
class DistillConfig:
    """How much of stage one is learning features from an image network; for pretraining."""

    weight: float = 0.0  # of the readout's error beside the diffusion loss; 0: none, and no teacher
    n_components: int = 64  # principal components of the teacher's features

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 100:
            raise BadInput(f"distill.weight is {self.weight}; allowed: 0 to 100")
        if not 1 <= self.n_components <= Lite0Features.channels:
            raise BadInput(f"distill.n_components is {self.n_components}; allowed: 1 to {Lite0Features.channels}")


class Readout(nn.Module):
    """Linear readings of a head's features: the teacher's features of the first frame, and of each map's own frame."""

    def __init__(self, channels: int, n_components: int) -> None:
        super().__init__()
        self.now = nn.Conv2d(channels, n_components, 1)
        self.then = nn.Conv2d(channels, n_components, 1)

    def error(
        self,
        features: FeatureMap,
        teacher: Float[Tensor, "batch frame channel row col"],
        keep: Bool[Tensor, " batch"],
        count: Float[Tensor, ""] | None = None,
    ) -> Tensor:
        """Mean squared error over both readings of the samples to keep, relative to unit variance.

        `count` of them are in each part of the batch on average; None: these are the batch.
        """
        n_frames = features.dense.shape[1]
        flat = rearrange(features.dense, "b t c h w -> (b t) c h w")
        future = teacher[:, 1:]
        pairs = ((self.now(flat), teacher[:, :1].expand_as(future)), (self.then(flat), future))
        errors = [
            (rearrange(read.float(), "(b t) c h w -> b t c h w", t=n_frames) - goal).square().mean((1, 2, 3, 4))
            for read, goal in pairs
        ]
        return masked_mean(torch.stack(errors).mean(0), keep, count)


def attach_teacher(cfg: DistillConfig, grid: int, accelerator: Accelerator, *datasets: ClipDataset) -> str:
    """Give clips principal components of the teacher's features of their frames, as `teacher`; training clips first.

    Components are those of the training clips' frames. Returns their digest: another basis is another goal.
    """
    clips = datasets[0]
    width, height = clips.image_size
    teacher = Lite0Features().to(accelerator.device)
    folder = clips.data.root / "teacher"
    make_folder(folder)
    chosen = hashlib.sha256(repr([(e, clips.shown[e].tolist()) for e in sorted(clips.shown)]).encode()).hexdigest()[:8]
    path = folder / f"basis_{width}x{height}_{grid}_{cfg.n_components}_{chosen}.npz"
    if accelerator.is_main_process and not path.is_file():
        replace(path, partial(_write_basis, basis=principal_components(teacher, clips, grid, cfg.n_components)))
    accelerator.wait_for_everyone()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    with np.load(path) as stored:
        mean, matrix = (torch.from_numpy(stored[k]).to(accelerator.device) for k in ("mean", "matrix"))

    def encode(frames: Tensor) -> Tensor:
        parts = [teacher(to_pixels(f), grid) - mean[:, None, None] for f in frames.split(16)]
        return torch.einsum("kc,bchw->bkhw", matrix, torch.cat(parts))

    attach("teacher", f"lite0_{digest}", encode, accelerator, list(datasets))
    return digest


@torch.no_grad()
def principal_components(
    teacher: Lite0Features, clips: ClipDataset, grid: int, n: int
) -> tuple[Float[Tensor, " channel"], Float[Tensor, "n channel"]]:
    """Mean of the teacher's features, and the matrix that gives their principal components, of mean variance 1.

    Channels count in standard deviations. Between whitening, which would weigh noise like things, and no scaling, which
    would weigh lightness alone, components are scaled to the square root of their deviation.
    """
    device = next(teacher.parameters()).device
    frames = [clips[i]["frames"][:1] for i in spread(len(clips), N_BASIS)]
    maps = torch.cat([teacher(to_pixels(f).to(device), grid) for f in frames])
    rows = rearrange(maps, "b c h w -> (b h w) c").double()
    mean, std = rows.mean(0), rows.std(0) + 1e-6
    values, vectors = torch.linalg.eigh(((rows - mean) / std).T.cov())
    top, values = vectors.flip(1)[:, :n], values.flip(0)[:n].clamp(min=1e-8)
    scale = values**-0.25 / (values.sqrt().mean().sqrt())
    return mean.float(), ((top * scale).T / std).float()


def _write_basis(path: Path, basis: tuple[Tensor, Tensor]) -> None:
    np.savez(path, mean=basis[0].cpu().numpy(), matrix=basis[1].cpu().numpy())
