"""Pretraining of a small SVD, first half: its VAE, the encoder in closed form, the decoder trained; resumes.

accelerate launch train_stages/vae.py --config_path configs/pretrain/vae.yaml

Writes a pipeline folder, `<run>/pipeline`: this VAE beside a UNet and an image encoder with random weights. It is there
from the start, so that the UNet, which needs the encoder alone, can be trained meanwhile.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from train_stages.report import describe
from videopolicy.backbones import pipeline
from videopolicy.backbones.copy_start import start_copying
from videopolicy.backbones.pipeline import Architecture
from videopolicy.config import launch
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.files import lock_folder, make_folder, replace_folder
from videopolicy.data.splits import spread
from videopolicy.errors import BadInput
from videopolicy.training.disk import check_disk, checkpoint_size
from videopolicy.training.linear_start import start_linear
from videopolicy.training.loop import fit
from videopolicy.training.measures import psnr
from videopolicy.training.optimizer import make_optimizer
from videopolicy.training.precision import with_precision
from videopolicy.training.setup import TrainConfig, make_accelerator
from videopolicy.training.vae import Crops, DecoderObjective, crop_draws
from videopolicy.training.zero import at_most
from videopolicy.viz.draw import save_clip_comparison


@dataclass(frozen=True)
class Config:
    """The VAE's pretraining; all choices are ours."""

    run: Path = Path("runs/pretrain/vae")
    data: DataConfig = DataConfig(root=Path("data/corpus"), n_val_episodes=24)
    architecture: Architecture = Architecture()
    train: TrainConfig = TrainConfig(n_steps=3000, batch_size=4, schedule="cosine")
    lr: float = 2e-4
    crop: int = 32  # side of the square that a clip is cut to [pixels]; the model is convolutional
    late_crop: int = 64  # the same in the last `n_late` steps, where a crop's border weighs less
    n_late: int = 500
    n_precise: int = 150  # last steps in full precision, in which the decoder is used
    dry_run: bool = False


def main(cfg: Config) -> dict[str, float]:
    # Set up: data, the networks of the architecture.
    cfg = with_precision(cfg)
    at_most(2, "for a VAE")
    accelerator = make_accelerator(cfg.train)
    size = cfg.architecture
    factor = 2 ** (len(size.vae_channels) - 1)
    for name in ("crop", "late_crop"):
        side = getattr(cfg, name)
        if side % factor or not factor <= side <= min(size.image_size):
            raise BadInput(f"{name} is {side}; allowed: multiples of {factor} up to {min(size.image_size)}")
    for name in ("n_late", "n_precise"):
        if getattr(cfg, name) < 0:
            raise BadInput(f"{name} is {getattr(cfg, name)}; allowed: at least 0")
    _, clips, val_clips = open_splits(cfg.data, size.n_frames, size.n_frames - 1, size.image_size)
    folder = cfg.run / "pipeline"
    if folder.is_dir():  # an encoder is made once: a UNet may be in training behind it
        parts = pipeline.load(folder)
    else:
        parts = pipeline.create(size, cfg.train.seed)
        start_linear(parts.vae, torch.stack([clips[i]["frames"][0] for i in spread(len(clips), 128)]))
        start_copying(parts.unet, parts.vae.config.scaling_factor)
    made = (tuple(parts.unet.config.block_out_channels), tuple(parts.vae.config.block_out_channels))
    if made != (size.channels, size.vae_channels):
        raise BadInput(f"{folder} holds networks of {made} channels, not {(size.channels, size.vae_channels)}")
    objective = DecoderObjective(parts.vae)
    optimizer = make_optimizer({"decoder": ([p for p in objective.parameters() if p.requires_grad], cfg.lr)}, cfg.train)
    describe(accelerator, cfg, clips, val_clips, optimizer)
    size_on_disk = checkpoint_size(objective, optimizer, bool(cfg.train.ema))
    check_disk(cfg.run, size_on_disk, cfg.train.n_steps, accelerator.print)
    if cfg.dry_run:
        return {}
    make_folder(cfg.run / "previews")

    # Validate whole pictures of held-out clips, in full precision.
    val = torch.stack([val_clips[i]["frames"] for i in spread(len(val_clips), 24)])

    @torch.inference_mode()
    def validate(step: int) -> dict[str, float]:
        objective.eval()
        decoded = torch.stack([objective.reconstruct(clip.to(accelerator.device)) for clip in val]).cpu()
        if accelerator.is_main_process and step == cfg.train.n_steps:
            save_clip_comparison(cfg.run / "previews" / f"step_{step:06d}.png", val[:4].numpy(), decoded[:4].numpy())
        return {"psnr": float(psnr(decoded, val).mean()), "psnr_worst": float(psnr(decoded, val).min())}

    def draws(places: Sequence[int], step: int) -> Crops:
        left = cfg.train.n_steps - step
        side = cfg.late_crop if left <= cfg.n_late else cfg.crop
        return crop_draws(size.image_size, side, places, cfg.train.seed, step, left <= cfg.n_precise)

    # Train; no other process may write to this run meanwhile.
    with lock_folder(cfg.run) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process and not folder.is_dir():
            replace_folder(folder, partial(pipeline.save, parts))
        results = fit(
            cfg.train,
            accelerator,
            objective,
            optimizer,
            clips,
            draws=draws,
            validate=validate,
            run=cfg.run,
            config=cfg,
            state={"stage": "vae"},
            overfit=cfg.data.overfit,
        )
        if accelerator.is_main_process:
            replace_folder(folder, partial(pipeline.save, parts))
            accelerator.print(f"wrote {folder}")
    return results


if __name__ == "__main__":
    launch(main, Config)
