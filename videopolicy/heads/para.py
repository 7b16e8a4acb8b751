"""The pixel-aligned head: where in the image, how high above the table, how open the gripper. Sections 3.2, 3.3."""

import math
from dataclasses import dataclass

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
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import HeatmapHead, Heatmaps, ParaConfig
from videopolicy.heads.peak import Peak
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class ParaPrediction(Heatmaps):
    """Logits on the head's grid; upsampled only in thought. `volume` is Z: a bin per height if its loss is joint."""

    everywhere: dict[str, Float[Tensor, "batch step _"]] | None = None  # the same logits at every pixel, without hidden


class ParaHead(HeatmapHead):
    """Heatmaps, and linear maps of the same features, read as upsampled to the full image."""

    acts = True

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
        joint = cfg.volume_loss == "joint"
        n_bins = cfg.n_height if joint else 1
        super().__init__(cfg, channels, n_frames, n_steps, grid, image_size, n_bins)
        self.height_bins, self.period = height, period
        self.gripper_bins = Bins(0.0, 1.0, cfg.n_gripper)
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
        return ParaPrediction(*self.maps(features))

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

    @torch.no_grad()
    def shares(self, prediction: ParaPrediction, pixel: Float[Tensor, "batch step 2"]) -> dict[str, Tensor]:
        """Probabilities (batch step bin) of the bins of height and gripper at each step's pixel."""
        logits = self.read(prediction, pixel)
        if "height" not in logits:
            volume = prediction.volume
            weights = upsampled.cell_weights(pixel.to(volume), self.image_size, self.grid)
            logits = {**logits, "height": torch.einsum("bnkhw,bnh,bnw->bnk", volume, *weights)}
        return {name: logits[name].softmax(-1) for name in ("height", "gripper")}

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

        Confidence is of the whole picture.
        """
        volume = prediction.volume if cameras is None else self._below_horizon(prediction.volume, cameras)
        return self.peaks(volume, belief=prediction.volume)

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
