"""Where the gripper is in a picture: a small detector, trained on recorded frames, that measures generated ones.

A fully convolutional network, so that it reads what a picture shows and not where the arm usually is.
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy.data.dataset import ClipDataset
from videopolicy.progress import Progress

STRIDE = 4  # of the heatmap [pixels]
BATCH = 16
CPU = torch.device("cpu")


class KeypointDetector(nn.Module):
    """Pictures to the pixel of the end effector: mean of a heatmap's softmax."""

    def __init__(self) -> None:
        super().__init__()
        widths, dilations = (16, 32, 48, 48, 48), (1, 1, 2, 4)
        layers: list[nn.Module] = [nn.PixelUnshuffle(STRIDE), nn.Conv2d(3 * STRIDE**2, widths[0], 3, padding=1)]
        for a, b, d in zip(widths[:-1], widths[1:], dilations, strict=True):
            layers += [nn.GroupNorm(8, a), nn.SiLU(), nn.Conv2d(a, b, 3, padding=d, dilation=d)]
        self.net = nn.Sequential(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 1, 1))

    def forward(self, frames: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch row col"]:
        return self.net(rearrange(frames, "b h w c -> b c h w").float() / 127.5 - 1)[:, 0]

    @torch.inference_mode()
    def locate(self, frames: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 2"]:
        """Pixel (u, v) of the end effector: the softmax's mean within two cells of its peak."""
        heatmap = self(frames)
        rows, cols = heatmap.shape[1:]
        probability = heatmap.flatten(1).softmax(-1)
        peak = probability.argmax(-1)
        v, u = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(cols) + 0.5, indexing="ij")
        u, v = u.flatten().to(heatmap.device), v.flatten().to(heatmap.device)
        near = ((u - u[peak, None]).abs() <= 2) & ((v - v[peak, None]).abs() <= 2)
        weight = probability * near
        weight = weight / weight.sum(-1, keepdim=True)
        return STRIDE * torch.stack([(weight * u).sum(-1), (weight * v).sum(-1)], -1)


def train_detector(clips: ClipDataset, n_steps: int, seed: int = 0, device: torch.device = CPU) -> KeypointDetector:
    """A detector fitted to frames of training clips and the pixels their cameras project the end effector to."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = KeypointDetector().to(device)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, n_steps)
    rng = np.random.default_rng(seed)
    progress = Progress("keypoint", n_steps, 0)
    for step in range(n_steps):
        chosen = [clips[int(i)] for i in rng.integers(len(clips), size=BATCH)]
        pixel = torch.stack([c["start_pixel"] for c in chosen]).to(device)
        seen = ~pixel.isnan().any(-1)
        heatmap = detector(torch.stack([c["frames"][0] for c in chosen]).to(device)[seen])
        col, row = (pixel[seen] / STRIDE).long().unbind(-1)
        loss = nn.functional.cross_entropy(heatmap.flatten(1), row * heatmap.shape[-1] + col)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 20 == 0:
            progress.update(step + 1, f"loss {float(loss.detach()):.2f}")
    progress.close()
    return detector.eval()
