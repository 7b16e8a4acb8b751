"""Stage two: tune the video model jointly with an action head on its decoder's features; the same command resumes.

accelerate launch train_stages/joint.py --config_path configs/demo/joint_para.yaml
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from train_stages.leak import LeakMeter
from train_stages.previews import Pointing, PreviewConfig, Previews
from train_stages.report import describe, describe_labels
from train_stages.validation import Validation, first_observation, located
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.backbones.tuning import fitted
from videopolicy.config import launch
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.data.mixture import seen
from videopolicy.diffusion import SIGMA_MAX, SIGMA_MIN, NoiseConfig
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig, make_head
from videopolicy.heads.heatmap import Heatmaps
from videopolicy.policy import FeaturePolicy
from videopolicy.training import checkpoint, preflight, restoring
from videopolicy.training.balance import Balance
from videopolicy.training.latents import attach_latents
from videopolicy.training.loop import fit
from videopolicy.training.objectives import JointObjective, draw
from videopolicy.training.optimizer import make_optimizer
from videopolicy.training.precision import with_precision
from videopolicy.training.setup import TrainConfig, make_accelerator
from videopolicy.training.stage_one import checked, load_stage_one
from videopolicy.training.transfer import is_stage_two, open_source, transfer
from videopolicy.training.zero import check_compile, zero_stage

SAME = ("image_size", "n_frames", "augmentation")  # of the backbone, where another run of this script is begun from


@dataclass(frozen=True)
class Config:
    """Stage two. Learning rates and 3K steps as in section 4.3; the rest is ours."""

    run: Path = Path("runs/joint")
    # A stage-one run or checkpoint, or one of this script, whose head is taken over where it fits; null: from scratch.
    init_from: Path | None = None
    data: DataConfig = DataConfig()
    backbone: SVDConfig = SVDConfig()
    head: HeadConfig = HeadConfig(n_steps=6)  # a waypoint for each of the 6 future frames
    noise: NoiseConfig = NoiseConfig(high_share=0.5)
    train: TrainConfig = TrainConfig(n_steps=3000)
    lr_unet: float = 1e-6
    lr_head: float = 1e-4
    head_sigma_min: float = 80.0  # head losses count only above this noise level
    fixed_noise: bool = True  # there, train on the very noise sample that the policy acts with
    # What of a clip's future is in what the head reads in training: the noised clip, which the video model's own loss
    # needs, or, of one that is frozen, nothing, as when it acts.
    future: Literal["noised", "hidden"] = "noised"
    loss_balance: Balance = "ema"
    preview: PreviewConfig = PreviewConfig()
    leak_clips: int = 16  # held-out clips that validation also reads from their noised future
    dry_run: bool = False


def main(cfg: Config) -> dict[str, float]:
    # Set up: device, data, backbone from stage one, head.
    cfg = with_precision(cfg)
    check_compile(cfg.backbone.compile)
    accelerator = make_accelerator(cfg.train)
    torch.manual_seed(cfg.train.seed)
    if not SIGMA_MIN <= cfg.head_sigma_min <= SIGMA_MAX:
        raise BadInput(f"head_sigma_min is {cfg.head_sigma_min}; allowed: {SIGMA_MIN} to {SIGMA_MAX:g}")
    if cfg.noise.high_max < cfg.head_sigma_min or cfg.noise.high_share == 0:
        raise BadInput(
            f"no sample would train the head: high_share is {cfg.noise.high_share}, high_max {cfg.noise.high_max},"
            f" head_sigma_min {cfg.head_sigma_min}"
        )
    if cfg.init_from is not None and cfg.backbone.pretrained is not None and cfg.backbone.weights != "pretrained":
        raise BadInput(
            f"backbone.weights is {cfg.backbone.weights!r}, but the UNet comes from init_from {cfg.init_from}; allowed:"
            " 'pretrained', or init_from null"
        )
    if cfg.leak_clips < 0 or cfg.leak_clips == 1:  # one clip has no other whose future it could be given
        raise BadInput(f"leak_clips is {cfg.leak_clips}; allowed: 0, or at least 2")
    if cfg.data.min_change:
        raise BadInput(f"data.min_change is {cfg.data.min_change}; allowed: 0, or a policy would not learn to wait")
    if cfg.future == "hidden" and cfg.backbone.tune != "frozen":
        raise BadInput(f"future is 'hidden', but backbone.tune is {cfg.backbone.tune!r}; allowed for it: 'frozen'")
    data, clips, val_clips = open_splits(cfg.data, cfg.backbone.n_frames, cfg.head.n_steps, cfg.backbone.image_size)
    labels = clips.label_statistics()
    backbone = SVDBackbone(cfg.backbone, data.fps)
    stage_one = backbone.start
    source = None
    if cfg.init_from is not None and is_stage_two(cfg.init_from):
        source = open_source(cfg.init_from, "joint", cfg.backbone, SAME, cfg.head, data.fps)
        restoring.check_frozen(source.path, source.state, backbone.identity)
        labels, stage_one = source.labels(labels, cfg.head), source.digest
    elif cfg.init_from is not None:
        found = checked(cfg.init_from)
        accelerator.print(load_stage_one(found, backbone))
        stage_one = checkpoint.weights_digest(found)
    head = make_head(cfg.head, backbone, labels, data.fps)
    hidden = cfg.future == "hidden"
    objective = JointObjective(backbone, head, cfg.head_sigma_min, cfg.fixed_noise, cfg.loss_balance, hidden)
    if source is not None:
        accelerator.print(transfer(source, objective, cfg.head, fitted))
    groups = {
        "unet": (backbone.unet_parameters(), cfg.lr_unet),
        "head": ([*head.parameters(), backbone.start_embedding], cfg.lr_head),
    }
    optimizer = make_optimizer(groups, cfg.train)
    describe(accelerator, cfg, clips, val_clips, optimizer)
    describe_labels(accelerator, clips, labels, head if source is not None else None)
    preflight.check(preflight.Preflight(backbone, head, accelerator.num_processes), cfg.train, accelerator, cfg.run)
    if cfg.dry_run:
        return {}
    make_folder(cfg.run / "previews")
    previews = cfg.run / "previews" if accelerator.is_main_process else None
    attach_latents(backbone, accelerator, clips, val_clips)

    # Validate as the policy acts: from the first frame alone, at the deploy noise level.
    policy = FeaturePolicy(backbone, head, cfg.backbone.image_size, cfg.train.mixed_precision)
    validation = Validation(policy, data, val_clips)
    meter, dreams = None, None
    if accelerator.is_main_process or zero_stage() == 3:
        about = (cfg.run / "previews", cfg.train.n_steps, cfg.train.seed, accelerator)
        dreams = Previews(cfg.preview, backbone, clips, val_clips, *about)
    if cfg.leak_clips:
        meter = LeakMeter(backbone, head, data, val_clips, cfg.leak_clips, cfg.train.seed, cfg.fixed_noise)

    def validate(step: int) -> dict[str, float]:
        found = validation.at(objective, step, cfg.train.n_steps, previews)
        if meter is not None:
            with accelerator.autocast():
                found |= meter.measure(cfg.head_sigma_min)
        return found | (dreams.at(step, point) if dreams is not None else {})

    def point(chosen: list[int]) -> Pointing:
        """What the policy says of held-out clips' first frames: a pixel for each step."""
        if not head.acts:
            prediction, pixel = located(policy, torch.utils.data.default_collate([val_clips[i] for i in chosen]))
            return prediction if isinstance(prediction, Heatmaps) else None, pixel
        firsts = [first_observation(data, val_clips, i, val_clips[i]["frames"][0]) for i in chosen]
        prediction = policy.predict(firsts)
        positions = [c.position for c in head.decode(prediction, [o.camera for o in firsts])]
        sized = [o.camera.resized(cfg.backbone.image_size) for o in firsts]
        pixels = np.stack([camera.project(p) for camera, p in zip(sized, positions, strict=True)])
        return prediction if isinstance(prediction, Heatmaps) else None, torch.from_numpy(pixels)

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
            state={
                "fps": data.fps,
                "stage": "joint",
                "frozen": backbone.identity,
                "labels": labels,
                "stage_one": stage_one,
                "seen": [*seen(cfg.data, clips), *(source.seen if source is not None else [])],
            },
            overfit=cfg.data.overfit,
        )


if __name__ == "__main__":
    launch(main, Config)
