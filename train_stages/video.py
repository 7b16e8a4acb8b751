"""Stage one: fine-tune the video model on robot clips; the same command resumes.

accelerate launch train_stages/video.py --config_path configs/demo/video.yaml
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from train_stages.previews import PreviewConfig, Previews
from train_stages.report import describe
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.config import launch
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.data.splits import spread
from videopolicy.diffusion import NoiseConfig
from videopolicy.errors import BadInput
from videopolicy.training import preflight
from videopolicy.training.distill import DistillConfig, Readout, attach_teacher
from videopolicy.training.latents import attach_latents
from videopolicy.training.loop import fit
from videopolicy.training.objectives import VideoObjective, draw
from videopolicy.training.optimizer import make_optimizer
from videopolicy.training.precision import with_precision
from videopolicy.training.setup import TrainConfig, make_accelerator
from videopolicy.training.zero import check_compile, zero_stage

SIGMA_BUCKETS = (0.5, 2.0, 10.0, 40.0, 200.0)


@dataclass(frozen=True)
class Config:
    """Stage one. lr, batch and noise mix are ours; the sources state 4K steps."""

    run: Path = Path("runs/video")
    data: DataConfig = DataConfig()
    backbone: SVDConfig = SVDConfig()
    noise: NoiseConfig = NoiseConfig()
    distill: DistillConfig = DistillConfig()
    train: TrainConfig = TrainConfig()
    lr: float = 1e-5
    preview: PreviewConfig = PreviewConfig()
    dry_run: bool = False  # print what would be trained, and stop


def main(cfg: Config) -> dict[str, float]:
    # Set up: device, data, model.
    cfg = with_precision(cfg)
    check_compile(cfg.backbone.compile)
    accelerator = make_accelerator(cfg.train)
    torch.manual_seed(cfg.train.seed)
    data, clips, val_clips = open_splits(
        cfg.data, cfg.backbone.n_frames, cfg.backbone.n_frames - 1, cfg.backbone.image_size
    )
    backbone = SVDBackbone(cfg.backbone, data.fps)
    backbone.start_embedding.requires_grad_(False)  # stage two's; unused here, and data-parallel training would say so
    groups, readout = {"unet": (backbone.unet_parameters(), cfg.lr)}, None
    if cfg.distill.weight:
        if cfg.noise.high_share == 0:
            raise BadInput(
                f"no sample would train the readout: distill.weight is {cfg.distill.weight}, noise.high_share 0.0"
            )
        readout = Readout(backbone.feature_channels, cfg.distill.n_components)
        groups["readout"] = (list(readout.parameters()), cfg.lr)
    objective = VideoObjective(backbone, readout, cfg.distill.weight, cfg.noise.high_min)
    optimizer = make_optimizer(groups, cfg.train)
    describe(accelerator, cfg, clips, val_clips, optimizer)
    preflight.check(preflight.Preflight(backbone, readout, accelerator.num_processes), cfg.train, accelerator, cfg.run)
    if cfg.dry_run:
        return {}
    make_folder(cfg.run / "previews")

    # Frames are encoded once; afterwards a step costs the UNet's passes, and conditioning frames with noise.
    attach_latents(backbone, accelerator, clips, val_clips)
    state = {"fps": data.fps, "stage": "video", "frozen": backbone.identity, "start": backbone.start}
    if readout is not None:
        state["teacher"] = attach_teacher(cfg.distill, cfg.backbone.grid, accelerator, clips, val_clips)

    previews = None
    if accelerator.is_main_process or zero_stage() == 3:
        about = (cfg.run / "previews", cfg.train.n_steps, cfg.train.seed, accelerator)
        previews = Previews(cfg.preview, backbone, clips, val_clips, *about)

    # Validate on held-out episodes: loss per noise level, always with the same noise.
    chosen = spread(len(val_clips), 16)
    n_val = len(chosen)
    val_batch = torch.utils.data.default_collate([val_clips[i] for i in chosen])

    @torch.inference_mode()
    def validate(step: int) -> dict[str, float]:
        objective.eval()
        losses = {}
        for sigma in SIGMA_BUCKETS:
            draws = draw(cfg.noise, range(n_val), backbone, cfg.train.seed + 1, 0)
            draws.sigma.fill_(sigma)
            draws.dropout.fill_(1.0)
            with accelerator.autocast():
                found = objective(to_device(val_batch), draws.to(accelerator.device))
            losses[f"diffusion/sigma_{sigma:g}"] = float(found["diffusion"])
            if "distill" in found and sigma >= cfg.noise.high_min:
                losses[f"distill/sigma_{sigma:g}"] = float(found["distill"])
        return losses | (previews.at(step) if previews is not None else {})

    def to_device(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.to(accelerator.device) for k, v in batch.items()}

    # Train, saving as we go; no other process may write to this run meanwhile.
    with lock_folder(cfg.run) if accelerator.is_main_process else nullcontext():
        return fit(
            cfg.train,
            accelerator,
            objective,
            optimizer,
            clips.first_pictures(),
            draws=lambda places, step: draw(cfg.noise, places, backbone, cfg.train.seed, step).to(accelerator.device),
            validate=validate,
            run=cfg.run,
            config=cfg,
            state=state,
            overfit=cfg.data.overfit,
        )


if __name__ == "__main__":
    launch(main, Config)
