"""What a video model dreams while it is trained, beside what happened; and whether a head points where the arm goes.

Always of the same held-out clips from the same noise, as a picture and as a video.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.splits import spread
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput
from videopolicy.heads.heatmap import Heatmaps
from videopolicy.training.keypoint import train_detector
from videopolicy.training.measures import motion
from videopolicy.viz.draw import pointed, save_clip_comparison

STILL = 0.25  # of real clips' motion; a model that learned to copy its first frame is below it
HELD = 2  # pictures of the video per frame of a clip, at its own frame rate

Pointing = tuple[Heatmaps | None, Float[Tensor, "clip step 2"]]  # a head's heatmaps, and its pixels


@dataclass(frozen=True)
class PreviewConfig:
    """How often training is looked at, and how closely."""

    clips: int = 4  # held out, evenly spread; 0: no previews
    every: int = 1000  # steps, of those that validate; and after the last
    n_sample_steps: int = 12
    detector_steps: int = 0  # in which a detector of the gripper is fitted, that measures generated clips; 0: none

    def __post_init__(self) -> None:
        for name, least in (("clips", 0), ("every", 1), ("n_sample_steps", 1), ("detector_steps", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"preview.{name} is {getattr(self, name)}; allowed: at least {least}")


class Previews:
    """Generates the same clips again and again; the main process looks at them and writes.

    Others take part where no process has all weights: at ZeRO's stage 3.
    """

    def __init__(
        self,
        cfg: PreviewConfig,
        backbone: SVDBackbone,
        clips: ClipDataset,
        val_clips: ClipDataset,
        folder: Path,
        last_step: int,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.cfg, self.backbone, self.folder, self.last_step = cfg, backbone, folder, last_step
        self.fps, self.seed, self.accelerator = clips.data.fps, seed, accelerator
        self.chosen = spread(len(val_clips), cfg.clips)
        self.batch = torch.utils.data.default_collate([val_clips[i] for i in self.chosen]) if cfg.clips else {}
        self.detector = None
        if cfg.clips and cfg.detector_steps and accelerator.is_main_process:
            self.detector = train_detector(clips, cfg.detector_steps, seed, accelerator.device)

    @torch.inference_mode()
    def at(self, step: int, point: Callable[[list[int]], Pointing] | None = None) -> dict[str, float]:
        """Pictures and measures where they are due. `point`: what a head says of these clips, by their numbers.

        `motion` is generated clips' motion energy over real ones'; `alignment_px` the median distance between the
        head's pixel for a frame and the gripper in the frame that was generated, `generated_px` between that and truth.
        """
        if not self.cfg.clips or (step % self.cfg.every and step != self.last_step):
            return {}
        real = self.batch["frames"]
        with self.accelerator.autocast():
            device = self.accelerator.device
            generated = self.backbone.generate(real[:, 0].to(device), self.cfg.n_sample_steps, self.seed).cpu()
        pointing = point(self.chosen) if point is not None else None
        if not self.accelerator.is_main_process:
            return {}
        save_clip_comparison(self.folder / f"clips_{step:06d}.png", real.numpy(), generated.numpy())
        try:
            write_video(self.folder / f"clips_{step:06d}.mp4", panels(real, generated, pointing), HELD * self.fps)
        except OSError as error:  # no training ends because of a picture
            warnings.warn(f"cannot write clips_{step:06d}.mp4: {error}", stacklevel=2)
        found = {"motion": motion(generated) / max(motion(real), 1e-6)}
        if found["motion"] < STILL:
            self.accelerator.print(
                f"\nstep {step}: generated clips hardly move (motion energy {found['motion']:.2f} of real ones')"
            )
        if self.detector is not None:
            future = rearrange(generated[:, 1:], "b t h w c -> (b t) h w c").to(device)
            located = rearrange(self.detector.locate(future).cpu(), "(b t) c -> b t c", b=len(real))
            stride = self.batch["pixel"].shape[1] // located.shape[1]
            truth, valid = (self.batch[k][:, stride - 1 :: stride] for k in ("pixel", "valid"))
            if valid.any():
                found["generated_px"] = float((located - truth).norm(dim=-1)[valid].median())
            if pointing is not None:
                found["alignment_px"] = float((located - pointing[1][:, stride - 1 :: stride]).norm(dim=-1).median())
        return {f"preview/{name}": value for name, value in found.items()}


def panels(
    real: UInt8[Tensor, "clip frame height width 3"],
    generated: UInt8[Tensor, "clip frame height width 3"],
    pointing: Pointing | None,
) -> UInt8[np.ndarray, "picture rows cols 3"]:
    """A row per clip: what happened, what was generated, and on that the head's heatmap for each frame."""
    columns = [real.numpy(), generated.numpy()]
    if pointing is not None:
        columns.append(np.stack([_pointed(clip, pointing, i) for i, clip in enumerate(generated.numpy())]))
    clips = rearrange(np.stack(columns), "p b t h w c -> t (b h) (p w) c")
    rows, cols = (n // 2 * 2 for n in clips.shape[1:3])  # video files want even sizes
    return np.repeat(clips[:, :rows, :cols], HELD, 0)


def _pointed(
    clip: UInt8[np.ndarray, "frame height width 3"], pointing: Pointing, i: int
) -> UInt8[np.ndarray, "frame height width 3"]:
    """A clip with where clip `i`'s head says that the gripper is in each frame after the first."""
    prediction, pixel = pointing
    stride = len(pixel[i]) // (len(clip) - 1)
    tiles = [clip[0].copy()]
    for t, frame in enumerate(clip[1:]):
        step = (t + 1) * stride - 1
        logits = None if prediction is None else prediction.heatmap[i, step]
        tiles.append(pointed(frame, logits, pixel[i, step].numpy()))
    return np.stack(tiles)
