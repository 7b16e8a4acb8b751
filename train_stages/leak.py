"""Whether a head reads the future off the noised clip, where it stands only in training.

Of held-out clips, at every noise level: a head that is far better at low noise than from pure noise reads what it will
not have. At the least level that trains it, another clip's future must not move what it predicts.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.diffusion import NoiseConfig, like
from videopolicy.heads.head import ActionHead
from videopolicy.training.objectives import clean, draw

SIGMAS = (0.5, 2.0, 10.0, 40.0, 80.0, 200.0, 600.0)


class LeakMeter:
    """Reads `n` of the clips, evenly spread, as training does: from their own future, noised.

    By the noise that the policy acts with if `fixed_noise`, which a network might know by heart and take away again.
    """

    def __init__(
        self,
        backbone: SVDBackbone,
        head: ActionHead,
        data: Dataset,
        clips: ClipDataset,
        n: int,
        seed: int,
        fixed_noise: bool,
    ) -> None:
        self.backbone, self.head = backbone, head
        chosen = spread(len(clips), n)
        self.batch = torch.utils.data.default_collate([clips[i] for i in chosen])
        self.cameras = [data.camera_of(clips.samples[i][0]) for i in chosen]
        self.draws = draw(NoiseConfig(), range(len(chosen)), backbone, seed, 0)
        if fixed_noise:
            self.draws = replace(self.draws, noise=backbone.feature_noise.cpu().expand_as(self.draws.noise))

    @torch.inference_mode()
    def measure(self, head_sigma_min: float) -> dict[str, float]:
        """Mean error of waypoints [mm] at every noise level, and how far another future moves them [mm]."""
        device = next(self.head.parameters()).device
        batch, draws = {k: v.to(device) for k, v in self.batch.items()}, self.draws.to(device)
        x0 = clean(self.backbone, batch, draws)
        first = self.backbone.pixels(batch["frames"][:, 0])
        condition = self.backbone.condition(first, draws.augmentation, draws.pixel_noise)
        valid, truth = batch["valid"].cpu().numpy(), batch["position"].double().cpu().numpy()

        def waypoints(clips: Tensor, sigma: float) -> Float[np.ndarray, "clip step 3"]:
            level = torch.full_like(draws.sigma, sigma)
            blocks = self.backbone.read(clips + like(level, x0) * draws.noise, level, condition)
            features = self.backbone.features(blocks, batch["start_pixel"])
            with torch.autocast(device.type, enabled=False):  # as a policy acts
                chunks = self.head.decode(self.head.forward(features), self.cameras)
            return np.stack([c.position for c in chunks])

        found = {}
        for sigma in SIGMAS:
            error = np.linalg.norm(waypoints(x0, sigma) - truth, axis=-1)
            found[f"leak/sigma_{sigma:g}_mm"] = float(1000 * error[valid].mean())
        if len(x0) > 1:
            # Clips are evenly spread: half of them away is another episode.
            other = torch.cat([x0[:, :1], x0.roll(len(x0) // 2, 0)[:, 1:]], 1)
            moved = waypoints(other, head_sigma_min) - waypoints(x0, head_sigma_min)
            found["leak/swap_mm"] = float(1000 * np.linalg.norm(moved, axis=-1)[valid].mean())
        return found
