"""How well a policy's chunks agree with held-out ones, and a picture of its heatmaps."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.heads.heatmap import HeatmapHead, Heatmaps
from videopolicy.heads.para import ParaHead
from videopolicy.heads.regression import PixelRegressionHead
from videopolicy.policy import FeaturePolicy
from videopolicy.rotation import orientation, rotation_vector
from videopolicy.types import Observation
from videopolicy.viz.draw import save_heatmaps

N = 64  # clips, evenly spread


def first_observation(
    data: Dataset, clips: ClipDataset, i: int, picture: UInt8[Tensor, "height width 3"]
) -> Observation:
    """What a policy would see at the start of clip `i`, whose first picture is given."""
    episode, t = clips.samples[i]
    return Observation(
        picture.numpy(), data.camera_of(episode), data.state(episode)[clips.shown[episode][t], :3], 0.0, 0.0
    )


def located(policy: FeaturePolicy, batch: dict[str, Tensor]) -> tuple[Any, Float[Tensor, "batch step 2"]]:
    """What a head that only says where makes of a batch's first pictures: its prediction, and pixels."""
    head = policy.head
    assert isinstance(head, HeatmapHead | PixelRegressionHead)
    device = next(head.parameters()).device
    start_height = batch["start_height"].to(device)
    prediction = policy.read(batch["frames"][:, 0].to(device), batch["start_pixel"].to(device), start_height)
    return prediction, head.pixels(prediction).cpu()


class Validation:
    """Acts on held-out clips' first frames, as it would in use."""

    def __init__(self, policy: FeaturePolicy, data: Dataset, clips: ClipDataset) -> None:
        chosen = spread(len(clips), N)
        self.policy = policy
        self.batch = torch.utils.data.default_collate([clips[i] for i in chosen])
        pictures = zip(chosen, self.batch["frames"][:, 0], strict=True)
        self.observations = [first_observation(data, clips, i, x) for i, x in pictures] if policy.head.acts else []

    def at(self, objective: nn.Module, step: int, last_step: int, previews: Path | None) -> dict[str, float]:
        """`measure` at a training step, in evaluation mode; after the last step with a sheet in `previews`."""
        objective.eval()
        return self.measure(previews / f"step_{step:06d}.png" if previews and step == last_step else None)

    @torch.inference_mode()
    def measure(self, preview: Path | None = None) -> dict[str, float]:
        """Errors over valid waypoints [mm, pixels, degrees], share of right grippers; a sheet of heatmaps if wanted."""
        batch, head = self.batch, self.policy.head
        if not head.acts:
            return self._located(preview)
        prediction = self.policy.predict(self.observations)
        chunks = head.decode(prediction, [o.camera for o in self.observations])
        position = torch.from_numpy(np.stack([c.position for c in chunks]))
        gripper = torch.from_numpy(np.stack([c.gripper for c in chunks]))
        valid = batch["valid"]
        error = (position - batch["position"]).norm(dim=-1)[valid]
        results = {
            "position_mm": float(1000 * error.mean()),
            "position_median_mm": float(1000 * error.median()),
            "gripper_accuracy": float(((gripper > 0.5) == (batch["gripper"] > 0.5))[valid].float().mean()),
        }
        if chunks[0].pixel is not None:
            pixel = torch.from_numpy(np.stack([c.pixel for c in chunks if c.pixel is not None]))
            results["pixel"] = float((pixel - batch["pixel"]).norm(dim=-1)[valid].mean())
        predicted = [c.rotation for c in chunks if c.rotation is not None]
        if predicted and "rotation" in batch:
            pairs = zip(np.stack(predicted)[valid], batch["rotation"][valid].numpy(), strict=True)
            away = [rotation_vector(orientation(ours), orientation(truth)) for ours, truth in pairs]
            results["rotation_deg"] = float(np.degrees(np.linalg.norm(away, axis=-1).mean()))
        if isinstance(head, ParaHead) and isinstance(prediction, Heatmaps):
            results["height_mm"] = float(1000 * (position[..., 2] - batch["height"])[valid].abs().mean())
            outside = head.height_bins.outside(batch["height"])
            results["height_outside_bins"] = float(outside[valid].float().mean())
            if preview is not None:
                save_heatmaps(preview, batch, prediction.heatmap, pixel, self.policy.image_size)
        return results

    def _located(self, preview: Path | None) -> dict[str, float]:
        """Of a head that says where, and no more: it needs no cameras."""
        batch = self.batch
        prediction, pixel = located(self.policy, batch)
        if preview is not None and isinstance(prediction, Heatmaps):
            save_heatmaps(preview, batch, prediction.heatmap, pixel, self.policy.image_size)
        away = (pixel - batch["pixel"]).norm(dim=-1)[batch["valid"]]
        return {"pixel": float(away.mean()), "pixel_median": float(away.median())}
