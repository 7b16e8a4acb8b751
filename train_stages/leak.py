"""Whether a head reads the future off the noised clip, where it stands only in training.

Of held-out clips, at every noise level: a head that is far better at low noise than from pure noise reads what it will
not have. At the least level that trains it, another clip's future must not move what it predicts.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.diffusion import NoiseConfig, like
from videopolicy.heads.coordinates import CoordinateHead
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import HeatmapHead
from videopolicy.heads.regression import PixelRegressionHead
from videopolicy.training.objectives import clean, draw

SIGMAS = (0.5, 2.0, 10.0, 40.0, 80.0, 200.0, 600.0)


class LeakMeter:
    """Reads `n` of the clips, evenly spread, as training does: from their own future, noised.

    By the noise that the policy acts with if `fixed_noise`, which a network might know by heart and take away again.
    """

    def __init__(
        self,
        backbone: SVDBackbone,
        head: HeatmapHead | CoordinateHead,
        data: Dataset,
        clips: ClipDataset,
        n: int,
        seed: int,
        fixed_noise: bool,
    ) -> None:
        self.backbone, self.head = backbone, head
        chosen = spread(len(clips), n)
        self.batch = torch.utils.data.default_collate([clips[i] for i in chosen])
        self.cameras = [data.camera_of(clips.samples[i][0]) for i in chosen] if head.acts else []
        self.draws = draw(NoiseConfig(), range(len(chosen)), backbone, seed, 0)
        if fixed_noise:
            self.draws = replace(self.draws, noise=backbone.feature_noise.cpu().expand_as(self.draws.noise))

    @torch.inference_mode()
    def measure(self, head_sigma_min: float) -> dict[str, float]:
        """At every noise level the head's losses, and waypoints' mean errors in space [mm] and in the picture [pixels].

        And how far another future moves them; of a head that only says where, in the picture alone.
        """
        device = next(self.head.parameters()).device
        batch, draws = {k: v.to(device) for k, v in self.batch.items()}, self.draws.to(device)
        x0 = clean(self.backbone, batch, draws)
        first = self.backbone.pixels(batch["frames"][:, 0])
        condition = self.backbone.condition(first, draws.augmentation, draws.pixel_noise)
        valid = batch["valid"].cpu().numpy()

        def predicted(clips: Tensor, sigma: float) -> Any:
            level = torch.full_like(draws.sigma, sigma)
            blocks = self.backbone.read(clips + like(level, x0) * draws.noise, level, condition)
            features = self.backbone.features(blocks, batch["start_pixel"])
            with torch.autocast(device.type, enabled=False):  # as a policy acts
                return self.head.forward(features)

        def away(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
            return {
                unit: float(np.linalg.norm(ours[unit] - theirs[unit], axis=-1)[valid].mean()) for unit in sorted(ours)
            }

        truth = {"px": batch["pixel"].cpu().numpy(), "mm": 1000 * batch["position"].double().cpu().numpy()}
        found = {}
        for sigma in SIGMAS:
            prediction = predicted(x0, sigma)
            for unit, value in away(self._waypoints(prediction), truth).items():
                found[f"leak/sigma_{sigma:g}_{unit}"] = value
            with torch.autocast(device.type, enabled=False):
                losses = self.head.loss(prediction, Targets.of(batch))
            found |= {f"leak/sigma_{sigma:g}_loss/{term}": float(value) for term, value in losses.items()}
        if len(x0) > 1:
            # Clips are evenly spread: half of them away is another episode.
            other = torch.cat([x0[:, :1], x0.roll(len(x0) // 2, 0)[:, 1:]], 1)
            moved = [self._waypoints(predicted(clips, head_sigma_min)) for clips in (other, x0)]
            found |= {f"leak/swap_{unit}": value for unit, value in away(*moved).items()}
        return found

    def _waypoints(self, prediction: Any) -> dict[str, Float[np.ndarray, "clip step _"]]:
        """By unit: in space [mm], where the head acts, and in the picture as the model sees it [pixels]."""
        head = self.head
        if isinstance(head, PixelRegressionHead) or (isinstance(head, HeatmapHead) and not head.acts):
            return {"px": head.pixels(prediction).cpu().numpy()}
        positions = [chunk.position for chunk in head.decode(prediction, self.cameras)]
        cameras = [camera.resized(self.backbone.image_size) for camera in self.cameras]
        pixels = [camera.project(position) for camera, position in zip(cameras, positions, strict=True)]
        return {"px": np.stack(pixels), "mm": 1000 * np.stack(positions)}
