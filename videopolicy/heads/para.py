"""The pixel-aligned head: where in the image, how high above the table, how open the gripper. Sections 3.2, 3.3."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
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
from videopolicy.heads.argmax import argmax
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.head import Targets
from videopolicy.heads.peak import Peak, refine
from videopolicy.heads.viterbi import most_likely_path
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class ParaConfig:
    volume_loss: Literal["factored", "joint"] = "factored"  # equations 1 and 2, or one softmax over pixel x height
    n_height: int = 32  # N_H
    n_gripper: int = 32  # N_G
    n_rotation: int = 0  # bins for each of the three angles of `rotation.py`; 0: no rotation is predicted
    gripper_head: Literal["per_pixel", "indexed_mlp"] = "per_pixel"  # linear in the features at the pixel, or an MLP
    width: int = 64  # channels of the trunk
    n_layers: int = 2  # 3x3 convolutions in the trunk
    window: float = 1.5  # sub-cell refinement: mean over the pixels this close to the best one [grid cells]
    stiffness: float = 0.0  # Viterbi over the chunk, nats per squared cell between steps; 0: each step by itself

    def __post_init__(self) -> None:
        for name, least in (("n_layers", 0), ("n_height", 1), ("n_gripper", 2), ("n_rotation", 0), ("width", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"head.para.{name} is {getattr(self, name)}; allowed: at least {least}")
        if self.n_rotation in (1, 2):  # a bin's two neighbours on the circle must be two
            raise BadInput(f"head.para.n_rotation is {self.n_rotation}; allowed: 0, or at least 3 bins for each angle")
        if not 0 < self.window <= 100:
            raise BadInput(f"head.para.window is {self.window}; allowed: above 0 to 100 grid cells")
        if not 0 <= self.stiffness < math.inf:
            raise BadInput(f"head.para.stiffness is {self.stiffness}; allowed: at least 0")


@dataclass(frozen=True)
class ParaPrediction:
    """Logits on the head's grid; upsampled only in thought."""

    volume: Float[Tensor, "batch step bin row col"]  # Z: one bin where the loss is factored, a bin per height if joint
    hidden: Float[Tensor, "batch frame channel row col"]  # the rest is linear in what stands here at a pixel
    everywhere: dict[str, Float[Tensor, "batch step _"]] | None = None  # the same logits at every pixel, without hidden

    @property
    def heatmap(self) -> Float[Tensor, "batch step row col"]:
        return self.volume.logsumexp(2)


class ParaHead(nn.Module):
    """A small trunk, then linear maps read as upsampled to the full image."""

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
        self.cfg, self.height_bins, self.period, self.image_size = cfg, height, period, image_size
        self.n_steps, self.grid = n_steps, grid
        self.gripper_bins = Bins(0.0, 1.0, cfg.n_gripper)
        self.steps_per_frame = n_steps // n_frames
        self.embed = Embedding(channels, cfg.width)
        self.frame_embedding = nn.Parameter(torch.zeros(n_frames, cfg.width, 1, 1))  # the maps share all else
        layers: list[nn.Module] = [nn.SiLU()]
        for _ in range(cfg.n_layers):
            layers += [nn.Conv2d(cfg.width, cfg.width, 3, padding=1), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        joint = cfg.volume_loss == "joint"
        self.volume = nn.Conv2d(cfg.width, self.steps_per_frame * (cfg.n_height if joint else 1), 1)
        sizes = {"height": 0 if joint else cfg.n_height, "gripper": cfg.n_gripper}
        sizes |= {f"rotation_{a}": cfg.n_rotation for a in "xyz"}
        self.sizes = {name: n for name, n in sizes.items() if n}
        self.terms = ("volume" if joint else "spatial", *self.sizes)
        if cfg.gripper_head == "indexed_mlp":
            self.gripper_mlp = nn.Sequential(nn.Linear(cfg.width, cfg.width), nn.SiLU())
        self.readers = nn.ModuleDict(
            {name: nn.Linear(cfg.width, self.steps_per_frame * n) for name, n in self.sizes.items()}
        )

    def forward(self, features: FeatureMap) -> ParaPrediction:
        embedded = rearrange(self.embed(features), "(b t) c h w -> b t c h w", t=len(self.frame_embedding))
        b, embedded = len(embedded), embedded + self.frame_embedding
        hidden = self.trunk(rearrange(embedded, "b t c h w -> (b t) c h w"))
        volume = rearrange(self.volume(hidden).float(), "(b t) (n k) h w -> b (t n) k h w", b=b, n=self.steps_per_frame)
        return ParaPrediction(volume, rearrange(hidden.float(), "(b t) c h w -> b t c h w", b=b))

    def read(self, prediction: ParaPrediction, pixel: Float[Tensor, "batch step 2"]) -> dict[str, Tensor]:
        """Logits (batch step bin) of height, gripper and rotation at each step's pixel.

        Features are read before they are mapped to bins: linear maps and bilinear upsampling commute, so this equals
        upsampling every bin's map, at the cost of one pixel.
        """
        if prediction.everywhere is not None:
            return prediction.everywhere
        n = self.steps_per_frame
        pixel = rearrange(pixel, "b (t n) c -> b t n c", n=n)
        with torch.autocast(pixel.device.type, enabled=False):
            weights = upsampled.cell_weights(pixel.to(prediction.hidden), self.image_size, self.grid)
            here = torch.einsum("btchw,btnh,btnw->btnc", prediction.hidden, *weights)
            logits = {}
            for name, reader in self.readers.items():
                x = self.gripper_mlp(here) if name == "gripper" and self.cfg.gripper_head == "indexed_mlp" else here
                weight = rearrange(reader.get_parameter("weight"), "(n k) c -> n k c", n=n)
                bias = rearrange(reader.get_parameter("bias"), "(n k) -> n k", n=n)
                logits[name] = rearrange(torch.einsum("btnc,nkc->btnk", x, weight) + bias, "b t n k -> b (t n) k")
        return logits

    def loss(self, prediction: ParaPrediction, targets: Targets) -> dict[str, Tensor]:
        """Equation 1 for the pixel; equation 2 for height and gripper, read at the true pixel (teacher forcing).

        Joint: one cross-entropy over pixel and height instead of two.
        """
        labels = self._labels(targets)
        if self.cfg.volume_loss == "joint":
            volume, index = prediction.volume, labels["height"]
            terms = {"volume": upsampled.volume_cross_entropy(volume, index, targets.pixel, self.image_size)}
        else:
            terms = {"spatial": upsampled.cross_entropy(prediction.volume[:, :, 0], targets.pixel, self.image_size)}
        for name, logits in self.read(prediction, targets.pixel).items():
            each = F.cross_entropy(logits.flatten(0, 1), labels[name].flatten(0, 1), reduction="none")
            terms[name] = each.view(targets.valid.shape)
        return {name: targets.mean(value) for name, value in terms.items()}

    @torch.no_grad()
    def decode(self, prediction: ParaPrediction, cameras: list[Camera]) -> list[ActionChunk]:
        """Best pixel (refined below the cell), height and gripper there, lifted by each image's camera. Section 3.3.

        Best of those that can be lifted: no height below the camera is seen above the horizon.
        """
        cameras = [camera.resized(self.image_size) for camera in cameras]
        peak = self.locate(prediction, cameras)
        logits = self.read(prediction, peak.pixel)
        if "height" in logits:
            height = self.height_bins.decode(logits["height"])
        else:
            height = self.height_bins.low + (peak.bin + 0.5) * self.height_bins.width
        gripper = logits["gripper"].softmax(-1) @ self.gripper_bins.centres(height)
        low, high = (self.gripper_bins.width / 2, 1 - self.gripper_bins.width / 2)
        gripper = ((gripper - low) / (high - low)).clamp(0, 1)  # the outermost bins mean fully closed and fully open
        rotation = None
        if self.cfg.n_rotation:
            rotation = torch.stack([_angle(logits[f"rotation_{a}"]) for a in "xyz"], -1).double().cpu().numpy()
        uv, z, opening, confidence = (x.double().cpu().numpy() for x in (peak.pixel, height, gripper, peak.confidence))
        return [
            ActionChunk(
                camera.lift(uv[i], z[i]),
                opening[i],
                self.period,
                uv[i],
                confidence[i],
                None if rotation is None else rotation[i],
            )
            for i, camera in enumerate(cameras)
        ]

    def locate(self, prediction: ParaPrediction, cameras: list[Camera] | None = None) -> Peak:
        """Best pixels of each step, and best bins of a joint volume; with cameras, of what lies below their horizons.

        The argmax over the full image sits near cell centres, as the maxima of any bilinear surface do; the mean over
        the probability within `window` grid cells of it is finer than the grid. Confidence is of the whole picture.
        """
        volume = prediction.volume if cameras is None else self._below_horizon(prediction.volume, cameras)
        if self.cfg.stiffness == 0:
            at = argmax(volume, self.image_size)
        else:
            row, col = most_likely_path(volume.logsumexp(2), self.cfg.stiffness)
            (width, height), (rows, cols) = self.image_size, self.grid
            v, u = (row * height + height // 2) // rows, (col * width + width // 2) // cols
            flat = rearrange(volume, "b n k h w -> b n (h w) k")
            best = flat.gather(2, (row * cols + col)[..., None, None].expand(-1, -1, 1, flat.shape[-1])).argmax(-1)
            at = (best[..., 0], v, u)
        return refine(volume, at, self.image_size, self.cfg.window, belief=prediction.volume)

    def _below_horizon(
        self, volume: Float[Tensor, "batch step bin row col"], cameras: list[Camera]
    ) -> Float[Tensor, "batch step bin row col"]:
        """The same logits where a cell's rays meet every height below the camera, and next to nothing elsewhere.

        Raises `BadInput` for a camera that is not above all heights of the head, or that sees nothing below itself.
        """
        below = np.stack([camera.cells_below_horizon(self.grid) for camera in cameras])
        for camera, cells in zip(cameras, below, strict=True):
            if camera.position[2] <= self.height_bins.high:
                raise BadInput(
                    f"the camera stands {camera.position[2]:.3f} m high; allowed: above {self.height_bins.high:.3f} m,"
                    " which this policy can predict"
                )
            if not cells.any():
                raise BadInput("the camera looks up in all of its picture; allowed: one that sees the table")
        if below.all():
            return volume
        nothing = volume.amin((-3, -2, -1), keepdim=True) - 30.0
        return torch.where(torch.from_numpy(below).to(volume.device)[:, None, None], volume, nothing)

    def encode(self, targets: Targets) -> ParaPrediction:
        """Logits that say exactly these targets, as sharply as this head can: what the oracle decodes."""
        rows, cols = self.grid
        cell = targets.pixel * targets.pixel.new_tensor([cols / self.image_size[0], rows / self.image_size[1]]) - 0.5
        col, row = (torch.arange(n, device=cell.device) for n in (cols, rows))
        distance = (col[None, :] - cell[..., 0, None, None]) ** 2 + (row[:, None] - cell[..., 1, None, None]) ** 2
        labels = self._labels(targets)
        logits = {}
        for name, n in self.sizes.items():
            share = labels[name] if labels[name].is_floating_point() else F.one_hot(labels[name], n)
            logits[name] = share.to(cell.dtype).clamp(min=1e-6).log()
        volume = -2.0 * distance[:, :, None]
        if self.cfg.volume_loss == "joint":
            volume = volume + 12.0 * F.one_hot(labels["height"], self.height_bins.n)[..., None, None]
        return ParaPrediction(volume, cell.new_zeros(len(cell), 1, 1, rows, cols), logits)

    def _labels(self, targets: Targets) -> dict[str, Tensor]:
        """Bins' indices (batch step) of height and gripper; of rotations the bins' shares (batch step bin)."""
        labels = {
            "height": self.height_bins.encode(targets.height.nan_to_num(0.0)),
            "gripper": self.gripper_bins.encode(targets.gripper.nan_to_num(0.0)),
        }
        if self.cfg.n_rotation:
            if targets.rotation is None:
                raise BadInput(
                    f"head.para.n_rotation is {self.cfg.n_rotation}, but the data has no rotations; allowed: 0"
                )
            both = _two_hot(targets.rotation.nan_to_num(0.0), self.cfg.n_rotation)
            labels |= {f"rotation_{a}": both[..., i, :] for i, a in enumerate("xyz")}
        return labels


def _two_hot(angle: Float[Tensor, "*batch"], n: int) -> Float[Tensor, "*batch n"]:
    """Shares of the two bins whose centres an angle [rad] lies between on the circle, so that it is their mean.

    One bin could tell angles apart by its width only, and zero, a hand that points straight down, lies on an edge.
    """
    turn = (angle / (2 * math.pi) + 0.5) * n - 0.5
    share, below = (turn - turn.floor())[..., None], turn.floor().long()
    first, second = (F.one_hot((below + i).remainder(n), n).to(angle.dtype) for i in (0, 1))
    return first * (1 - share) + second * share


def _angle(logits: Float[Tensor, "batch step bin"]) -> Float[Tensor, "batch step"]:
    """The mean over the most likely bin of the circle and its neighbours [rad, -pi to pi]."""
    n, p = logits.shape[-1], logits.float().softmax(-1)
    near = p.argmax(-1, keepdim=True) + torch.arange(-1, 2, device=p.device)
    weight = p.gather(-1, near.remainder(n))
    turn = ((weight * near).sum(-1) / weight.sum(-1) + 0.5) / n
    return (turn.remainder(1.0) - 0.5) * 2 * math.pi
