"""Is it a video model? Sampled clips against held-out ones, against a frozen first frame, and against another model.

python -m eval.video --model weights/svd-tiny

Clips are shown without pauses: where an arm waits, no codec beats a copy. `--data.min_change 0` shows them as recorded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from skimage.metrics import structural_similarity
from torch import Tensor

from videopolicy.backbones import pipeline
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.config import dump, launch
from videopolicy.data.dataset import ClipDataset, DataConfig, open_splits
from videopolicy.data.files import make_folder, write_json
from videopolicy.data.format import read_info
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.diffusion import NoiseConfig
from videopolicy.errors import BadInput, at_least_one, choices
from videopolicy.training.keypoint import KeypointDetector, train_detector
from videopolicy.training.manifest import trained_episodes
from videopolicy.training.measures import motion, psnr
from videopolicy.training.objectives import VideoObjective, draw
from videopolicy.training.stage_one import open_stage_one
from videopolicy.viz.draw import save_clip_comparison

SIGMAS = (0.1, 0.5, 2.0, 10.0, 40.0, 200.0, 600.0)
BATCH = 8
MEASURES = ("psnr", "ssim", "motion")
MOTION = (0.5, 2.0)  # of real clips' motion energy: less is a frozen picture, more is flicker


@dataclass(frozen=True)
class Config:
    """Which models, on which clips."""

    model: Path = Path("weights/svd-tiny")  # a pipeline folder, or a stage-one run
    scratch: Path | None = None  # another one to compare with
    data: DataConfig = DataConfig(root=Path("data/corpus"), n_val_episodes=24, min_change=4.0)
    output: Path = Path("runs/eval_video")
    n_clips: int = 48  # held out, evenly spread
    n_sample_steps: int = 12
    n_detector_steps: int = 400  # in which a detector of the gripper is fitted to training clips
    n_sheet: int = 8  # clips on the sheet
    require: tuple[str, ...] = ()  # of psnr, ssim, motion: fail, after measuring, where these are not good enough
    n_threads: int = 2
    seed: int = 0


def main(cfg: Config) -> dict:
    # Set up: models, held-out clips, and a detector of the gripper fitted to training clips.
    print(dump(cfg))
    at_least_one(cfg, "n_clips", "n_sample_steps", "n_detector_steps", "n_sheet", "n_threads")
    for name in cfg.require:
        if name not in MEASURES:
            raise choices("require", name, MEASURES)
    torch.set_num_threads(cfg.n_threads)
    fps = read_info(cfg.data.root)["fps"]
    models = {"model": open_model(cfg.model, fps)}
    if cfg.scratch is not None:
        models["scratch"] = open_model(cfg.scratch, fps)
        sizes = [(m.cfg.image_size, m.cfg.n_frames) for m in models.values()]
        if sizes[0] != sizes[1]:
            raise BadInput(f"{cfg.model} and {cfg.scratch} are of different sizes (image, frames): {sizes}")
    size = models["model"].cfg
    data, clips, val_clips = open_splits(cfg.data, size.n_frames, size.n_frames - 1, size.image_size)
    for path in filter(None, (cfg.model, cfg.scratch)):
        refuse_trained(path, data, val_clips, cfg.data)
    # Clips that end within their episode: past it, every frame is the last one.
    whole = [i for i, (e, t) in enumerate(val_clips.samples) if t + size.n_frames <= len(val_clips.shown[e])]
    if not whole:
        raise BadInput(
            f"no held-out episode of {cfg.data.root} has {size.n_frames} frames at data.min_change"
            f" {cfg.data.min_change:g}; a smaller one keeps more"
        )
    batch = torch.utils.data.default_collate([val_clips[whole[i]] for i in spread(len(whole), cfg.n_clips)])
    real = batch["frames"]
    make_folder(cfg.output)
    detector = train_detector(clips, cfg.n_detector_steps, cfg.seed)

    # Measure every way of guessing the future.
    frozen = real[:, :1].expand_as(real).contiguous()
    guesses = {"first frame": frozen} | {name: generate(m, real[:, 0], cfg) for name, m in models.items()}
    guesses["autoencoder"] = torch.stack([decode_encoded(models["model"], clip) for clip in real])
    results = {
        name: measure(detector, frames, real, batch["pixel"], batch["valid"]) for name, frames in guesses.items()
    }
    for name, model in models.items():
        results[name]["v_loss"] = {f"{s:g}": v_loss(model, batch, s, cfg.seed) for s in SIGMAS}
    of_real = measure(detector, real, real, batch["pixel"], batch["valid"])
    summary = {
        "model": str(cfg.model),
        "data": str(cfg.data.root),
        "n_clips": len(real),
        "min_change": cfg.data.min_change,
        "n_sample_steps": cfg.n_sample_steps,
        "detector_px": float(np.median(of_real["keypoint_px"])),
        "results": results,
        "beats_first_frame": beats(results["model"], results["first frame"]),
    }
    write_json(cfg.output / "summary.json", summary)
    chosen = spread(len(real), cfg.n_sheet)
    save_clip_comparison(cfg.output / "sheet.png", real[chosen].numpy(), guesses["model"][chosen].numpy())
    print(table(summary))
    print(f"sheet, real above sampled: {cfg.output / 'sheet.png'}")
    failed = failures(summary)
    if missed := [failed[name] for name in cfg.require if name in failed]:
        raise BadInput(f"{cfg.model} is not good enough: {'; '.join(missed)}")
    return summary


def refuse_trained(path: Path, data: Dataset, val_clips: ClipDataset, cfg: DataConfig) -> None:
    """`BadInput` where a model was trained on clips that are held out here."""
    known = trained_episodes(path, data) & {e for e, _ in val_clips.samples}
    if known:
        raise BadInput(
            f"{path} was trained on episode {min(known)} of {cfg.root} and {len(known) - 1} other(s) of those"
            f" that data.n_val_episodes {cfg.n_val_episodes} holds out; name the number it was trained with"
        )


def open_model(path: Path, fps: int, **fields: Any) -> SVDBackbone:
    """The video model of a pipeline folder, or of a stage-one run as it was configured there.

    `fields` are a configuration's, for a folder; what it says that it was made for goes before.
    """
    if not (path / "model_index.json").is_file() and path.exists():
        return open_stage_one(path).eval()
    purpose = pipeline.load(path).purpose
    made_for = {k: tuple(v) if isinstance(v, list) else v for k, v in (purpose or {}).items() if k != "fps"}
    given = {"augmentation": "none", "feature_blocks": (0,), "grid": 24, **fields, **made_for}
    return SVDBackbone(SVDConfig(pretrained=path, **given), fps).eval()


def generate(model: SVDBackbone, first: UInt8[Tensor, "clip height width 3"], cfg: Config) -> Tensor:
    """Sampled clips (clip frame height width 3), in batches."""
    parts = [model.generate(f, cfg.n_sample_steps, cfg.seed + i) for i, f in enumerate(first.split(BATCH))]
    return torch.cat(parts)


@torch.inference_mode()
def decode_encoded(model: SVDBackbone, clip: UInt8[Tensor, "frame height width 3"]) -> Tensor:
    """A clip through the VAE and back: the best that a sample of this model could look like."""
    pixels = model.decode(model.encode(model.pixels(clip)[None]))[0]
    return ((pixels.movedim(1, -1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def v_loss(model: SVDBackbone, batch: dict[str, Tensor], sigma: float, seed: int) -> float:
    """Mean squared error of v at a noise level, conditioning kept; the same noise for every model."""
    objective, losses = VideoObjective(model).eval(), []
    for i in range(0, len(batch["frames"]), BATCH):
        part = {"frames": batch["frames"][i : i + BATCH]}
        draws = draw(NoiseConfig(), range(len(part["frames"])), model, seed, i)
        draws.sigma.fill_(sigma)
        draws.dropout.fill_(1.0)
        losses += [float(objective(part, draws)["diffusion"])] * len(part["frames"])
    return float(np.mean(losses))


def measure(
    detector: KeypointDetector, frames: Tensor, real: Tensor, pixel: Float[Tensor, "clip step 2"], valid: Tensor
) -> dict:
    """Per frame after the first PSNR [dB], SSIM and error of the gripper [pixels]; motion relative to real clips."""
    similarity = [
        [structural_similarity(a, b, channel_axis=-1) for a, b in zip(x[1:], y[1:], strict=True)]
        for x, y in zip(frames.numpy(), real.numpy(), strict=True)
    ]
    located = detector.locate(frames[:, 1:].flatten(0, 1)).unflatten(0, frames[:, 1:].shape[:2])
    error = (located - pixel).norm(dim=-1)
    return {
        "psnr": psnr(frames[:, 1:], real[:, 1:]).mean(0).tolist(),
        "ssim": np.mean(similarity, 0).tolist(),
        "motion": motion(frames) / motion(real),
        "keypoint_px": [float(e[v].median()) for e, v in zip(error.T, valid.T, strict=True)],
    }


def beats(model: dict, first_frame: dict) -> dict[str, bool]:
    """Whether a model is better than the frozen first frame on every frame after it."""
    return {
        name: all(better > worse for better, worse in zip(model[name], first_frame[name], strict=True))
        for name in ("psnr", "ssim")
    }


def failures(summary: dict) -> dict[str, str]:
    """What keeps a model from counting as a video model: measure to line."""
    moving = summary["results"]["model"]["motion"]
    failed = {
        k: f"{k} not above the frozen first frame's on every frame"
        for k, ok in summary["beats_first_frame"].items()
        if not ok
    }
    if not MOTION[0] <= moving <= MOTION[1]:
        failed["motion"] = f"motion energy is {moving:.2f} of real clips', allowed: {MOTION[0]} to {MOTION[1]}"
    return failed


def table(summary: dict) -> str:
    """The results as text."""
    n_frames = len(summary["results"]["model"]["psnr"])
    pauses = "without pauses" if summary["min_change"] else "as recorded"
    lines = [f"{summary['n_clips']} held-out clips of {summary['data']}, {pauses}; frames 1 to {n_frames}"]
    columns = (("PSNR [dB]", "psnr", "7.2f"), ("SSIM", "ssim", "7.3f"), ("gripper error [px]", "keypoint_px", "7.1f"))
    for title, key, form in columns:
        lines.append(title)
        for name, r in summary["results"].items():
            lines.append(f"  {name:<12}" + "".join(f"{x:{form}}" for x in r[key]))
    lines.append("motion energy: " + ", ".join(f"{n} {r['motion']:.2f}" for n, r in summary["results"].items()))
    for name, r in summary["results"].items():
        if "v_loss" in r:
            lines.append(f"v-loss of {name}: " + "  ".join(f"s={s} {v:.3f}" for s, v in r["v_loss"].items()))
    lines.append(f"detector on real frames: {summary['detector_px']:.1f} px (median)")
    lines.append(f"better than the first frame on every frame: {summary['beats_first_frame']}")
    return "\n".join(lines)


if __name__ == "__main__":
    launch(main, Config)
