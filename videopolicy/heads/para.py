"""The pixel-aligned head: where in the image, how high above the table, how open the gripper. Sections 3.2, 3.3."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.errors import BadInput
from videopolicy.heads import upsampled
from videopolicy.heads.head import Standardised, Targets, masked_mean
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class ParaConfig:
    n_height: int = 32  # N_H
    n_gripper: int = 2  # N_G; the signal is binary
    width: int = 64  # channels of the trunk
    n_layers: int = 2  # 3x3 convolutions in the trunk
    window: float = 1.5  # sub-cell refinement: mean over the pixels this close to the best one [grid cells]

    def __post_init__(self) -> None:
        if self.n_layers < 0:
            raise BadInput(f"head.para.n_layers is {self.n_layers}; allowed: at least 0")
        if not 0 < self.window <= 100:
            raise BadInput(f"head.para.window is {self.window}; allowed: above 0 to 100 grid cells")


@dataclass(frozen=True)
class ParaPrediction:
    """Logits on the head's grid; upsampled only in thought."""

    heatmap: Float[Tensor, "batch step row col"]  # Z
    height: Float[Tensor, "batch step bin row col"]  # H_vol
    gripper: Float[Tensor, "batch step bin2 row col"]  # G


class ParaHead(nn.Module):
    """A small trunk, then 1x1 convolutions read as upsampled to the full image."""

    def __init__(
        self,
        cfg: ParaConfig,
        channels: int,
        n_frames: int,
        n_steps: int,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        height: Bins,
        period: float,
    ) -> None:
        super().__init__()
        if n_steps % n_frames:
            raise BadInput(f"n_steps is {n_steps}; allowed: multiples of the backbone's {n_frames} feature frames")
        if cfg.n_gripper < 2:
            raise BadInput(f"n_gripper is {cfg.n_gripper}; allowed: at least 2 (closed and open)")
        self.cfg, self.height_bins, self.period, self.image_size = cfg, height, period, image_size
        self.n_steps, self.grid = n_steps, grid
        self.gripper_bins = Bins(0.0, 1.0, cfg.n_gripper)
        self.steps_per_frame = n_steps // n_frames
        self.embed = nn.Sequential(Standardised(channels), nn.Conv2d(channels, cfg.width, 1))
        self.frame_embedding = nn.Parameter(torch.zeros(n_frames, cfg.width, 1, 1))  # the maps share all else
        layers: list[nn.Module] = [nn.SiLU()]
        for _ in range(cfg.n_layers):
            layers += [nn.Conv2d(cfg.width, cfg.width, 3, padding=1), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.out = nn.Conv2d(cfg.width, self.steps_per_frame * (1 + cfg.n_height + cfg.n_gripper), 1)

    def forward(self, features: FeatureMap) -> ParaPrediction:
        b = len(features.dense)
        embedded = self.embed(rearrange(features.dense, "b t c h w -> (b t) c h w"))
        embedded = rearrange(embedded, "(b t) c h w -> b t c h w", b=b) + self.frame_embedding
        maps = self.out(self.trunk(rearrange(embedded, "b t c h w -> (b t) c h w"))).float()
        maps = rearrange(maps, "(b t) (n c) h w -> b (t n) c h w", b=b, n=self.steps_per_frame)
        heatmap, height, gripper = maps.split([1, self.cfg.n_height, self.cfg.n_gripper], 2)
        return ParaPrediction(heatmap[:, :, 0], height, gripper)

    def loss(self, prediction: ParaPrediction, targets: Targets) -> dict[str, Tensor]:
        """Equation 1 for the pixel; equation 2 for height and gripper, read at the true pixel (teacher forcing)."""
        spatial = upsampled.cross_entropy(prediction.heatmap, targets.pixel, self.image_size)
        height = _bin_loss(prediction.height, targets.pixel, self.image_size, self.height_bins.encode(targets.height))
        gripper = _bin_loss(
            prediction.gripper, targets.pixel, self.image_size, self.gripper_bins.encode(targets.gripper)
        )
        terms = {"spatial": spatial, "height": height, "gripper": gripper}
        return {name: masked_mean(value, targets.valid) for name, value in terms.items()}

    @torch.no_grad()
    def decode(self, prediction: ParaPrediction, cameras: list[Camera]) -> list[ActionChunk]:
        """Best pixel (refined below the cell), height and gripper there, lifted by each image's camera. Section 3.3."""
        pixel, confidence = self.pixels(prediction.heatmap)
        height = self.height_bins.decode(upsampled.read(prediction.height, pixel, self.image_size))
        gripper = upsampled.read(prediction.gripper, pixel, self.image_size).softmax(-1) @ self.gripper_bins.centres(
            pixel
        )
        low, high = (self.gripper_bins.width / 2, 1 - self.gripper_bins.width / 2)
        gripper = ((gripper - low) / (high - low)).clamp(0, 1)  # the outermost bins mean fully closed and fully open
        chunks = []
        for i, camera in enumerate(cameras):
            uv = pixel[i].double().cpu().numpy()
            position = camera.resized(self.image_size).lift(uv, height[i].double().cpu().numpy())
            chunks.append(
                ActionChunk(
                    position, gripper[i].double().cpu().numpy(), self.period, uv, confidence[i].double().cpu().numpy()
                )
            )
        return chunks

    def pixels(self, heatmap: Float[Tensor, "batch step row col"]) -> tuple[Tensor, Tensor]:
        """Best pixels (batch step 2) and the probability mass around them (batch step).

        The argmax over the full image sits at cell centres, as the maxima of any bilinear surface do; the mean over
        the probability within `window` grid cells of it is finer than the grid.
        """
        width, height = self.image_size
        probability = upsampled.upsample(heatmap, self.image_size).flatten(2).softmax(-1)
        best = probability.argmax(-1)
        u, v = (torch.arange(n, device=heatmap.device) + 0.5 for n in (width, height))
        grid_v, grid_u = (x.flatten() for x in torch.meshgrid(v, u, indexing="ij"))
        cell_u, cell_v = width / self.grid[1], height / self.grid[0]
        away = ((grid_u - grid_u[best][..., None]) / cell_u) ** 2 + ((grid_v - grid_v[best][..., None]) / cell_v) ** 2
        near = away <= self.cfg.window**2
        weight = probability * near
        mass = weight.sum(-1)
        return torch.stack([(weight * grid_u).sum(-1), (weight * grid_v).sum(-1)], -1) / mass[..., None], mass

    def encode(self, targets: Targets) -> ParaPrediction:
        """Logits that say exactly these targets, as sharply as this head can: what the oracle decodes."""
        rows, cols = self.grid
        scale = targets.pixel.new_tensor([cols / self.image_size[0], rows / self.image_size[1]])
        cell = targets.pixel * scale - 0.5
        col, row = (torch.arange(n, device=cell.device) for n in (cols, rows))
        distance = (col[None, :] - cell[..., 0, None, None]) ** 2 + (row[:, None] - cell[..., 1, None, None]) ** 2
        ones = torch.ones(rows, cols, device=cell.device)
        bins = [
            12.0 * F.one_hot(b.encode(x), b.n)[..., None, None] * ones
            for b, x in ((self.height_bins, targets.height), (self.gripper_bins, targets.gripper))
        ]
        return ParaPrediction(-2.0 * distance, *bins)


def _bin_loss(maps: Tensor, pixel: Tensor, size: tuple[int, int], index: Tensor) -> Float[Tensor, "batch step"]:
    logits = upsampled.read(maps, pixel, size)
    return F.cross_entropy(rearrange(logits, "b n k -> b k n"), index, reduction="none")
