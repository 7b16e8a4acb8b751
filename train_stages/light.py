"""An action head on an image network, both fine-tuned: the light backbones. The same command resumes.

accelerate launch train_stages/light.py --config_path configs/light_para.yaml
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from train_stages.report import describe, describe_labels
from train_stages.validation import Validation
from videopolicy.backbones.image import ImageBackbone, ImageConfig
from videopolicy.config import launch
from videopolicy.data.appearance import draw_appearance
from videopolicy.data.augment import AugmentConfig, AugmentDraws, draw_homographies
from videopolicy.data.backdrop import backdrops_of, draw_backdrop
from videopolicy.data.copy_paste import copies_of
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.data.limbs import draw_limb
from videopolicy.data.mixture import open_mixture, seen
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig, make_head
from videopolicy.policy import FeaturePolicy
from videopolicy.training.balance import Balance
from videopolicy.training.disk import check_disk, checkpoint_size
from videopolicy.training.head_objective import HeadObjective
from videopolicy.training.loop import fit
from videopolicy.training.optimizer import make_optimizer
from videopolicy.training.precision import with_precision
from videopolicy.training.randomness import drawn
from videopolicy.training.setup import TrainConfig, make_accelerator
from videopolicy.training.transfer import open_source, transfer
from videopolicy.training.zero import at_most

SAME = ("name", "context")  # of the backbone, where another run is begun from


@dataclass(frozen=True)
class Config:
    """Section 3.5 trains a ViT-S and the head together; rates and batch are ours."""

    run: Path = Path("runs/light")
    init_from: Path | None = None  # another run of this script, whose weights are taken over where they fit
    data: DataConfig = DataConfig()
    # Other datasets' folders, of which so many clips are shown for each of data.root's; validation is of that alone.
    mix: dict[str, float] = field(default_factory=dict)
    backbone: ImageConfig = ImageConfig()
    head: HeadConfig = HeadConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig(n_steps=1000, warmup=50, schedule="cosine")
    lr_backbone: float = 1e-4  # 0: frozen
    lr_head: float = 1e-3
    loss_balance: Balance = "sum"
    dry_run: bool = False


def main(cfg: Config) -> dict[str, float]:
    # Set up: device, data, image network, head.
    cfg = with_precision(cfg)
    at_most(2, "for an image backbone")
    accelerator = make_accelerator(cfg.train)
    torch.manual_seed(cfg.train.seed)
    if cfg.data.min_change:
        raise BadInput(f"data.min_change is {cfg.data.min_change}; allowed: 0, or a policy would not learn to wait")
    size = cfg.backbone.image_size
    data, clips, val_clips = open_splits(cfg.data, 1, cfg.head.n_steps, size)
    if data.tracked and (cfg.augment.kind != "none" or cfg.augment.copies or cfg.augment.backdrop):
        raise BadInput(f"{cfg.data.root} has no cameras; allowed for it: augment.appearance, augment.limbs")
    mixed = open_mixture(cfg.data, cfg.mix, clips)
    if mixed is not clips and (cfg.augment.copies or cfg.augment.backdrop or cfg.augment.kind != "none"):
        raise BadInput(
            "augment has kind, copies or backdrop, of one dataset's cameras, but mix names more; allowed: none"
        )
    labels = mixed.label_statistics()
    if cfg.backbone.context == "hand" and labels["height"] is None:
        raise BadInput("backbone.context is hand, but the data has tracks of pixels alone; allowed for it: none, start")
    backbone = ImageBackbone(cfg.backbone)
    source = (
        None if cfg.init_from is None else open_source(cfg.init_from, "light", cfg.backbone, SAME, cfg.head, data.fps)
    )
    if source is not None:
        labels = source.labels(labels, cfg.head)
    head = make_head(cfg.head, backbone, labels, data.fps)
    begun: dict[str, Any] = {"seen": [*seen(cfg.data, mixed), *(source.seen if source is not None else [])]}
    if source is not None:
        begun["init_from"] = source.digest
    copies = copies_of(clips).to(accelerator.device) if cfg.augment.copies else None
    objective = HeadObjective(backbone, head, cfg.loss_balance, copies)
    if source is not None:
        accelerator.print(transfer(source, objective, cfg.head))
    groups = {
        "backbone": ([p for p in backbone.net.parameters() if p.requires_grad], cfg.lr_backbone),
        "head": ([*head.parameters(), backbone.start_embedding], cfg.lr_head),
    }
    optimizer = make_optimizer(groups, cfg.train)
    describe(accelerator, cfg, mixed, val_clips, optimizer)
    describe_labels(accelerator, mixed, labels, head if source is not None else None)
    if cfg.augment.backdrop:
        clips.maps["backdrop"] = backdrops_of(clips)
    if copies is not None:
        accelerator.print(f"copies of {len(copies.masks)} objects of {len(clips.shown)} demonstrations")
    size_on_disk = checkpoint_size(objective, optimizer, bool(cfg.train.ema))
    check_disk(cfg.run, size_on_disk, cfg.train.n_steps, accelerator.print)
    if cfg.dry_run:
        return {}
    make_folder(cfg.run / "previews")
    previews = cfg.run / "previews" if accelerator.is_main_process else None
    validation = Validation(FeaturePolicy(backbone, head, size, cfg.train.mixed_precision), data, val_clips)
    K = None if cfg.augment.kind == "none" else torch.from_numpy(data.camera.resized(size).K)

    def draw(generator: torch.Generator) -> AugmentDraws:
        H = None if K is None else draw_homographies(cfg.augment, 1, K, generator)
        copy = copies.draw(1, cfg.augment.copies, generator) if copies is not None else None
        look = draw_appearance(cfg.augment.appearance, generator) if cfg.augment.appearance else None
        backdrop = draw_backdrop(cfg.augment.backdrop, generator) if cfg.augment.backdrop else None
        limb = draw_limb(cfg.augment.limbs, generator) if cfg.augment.limbs else None
        return AugmentDraws(H, copy, look, backdrop, limb)

    # Train, saving as we go; no other process may write to this run meanwhile.
    with lock_folder(cfg.run) if accelerator.is_main_process else nullcontext():
        return fit(
            cfg.train,
            accelerator,
            objective,
            optimizer,
            mixed,
            draws=lambda places, step: drawn(draw, cfg.train.seed, step, places).to(accelerator.device),
            validate=lambda step: validation.at(objective, step, cfg.train.n_steps, previews),
            run=cfg.run,
            config=cfg,
            state={"fps": data.fps, "stage": "light", "labels": labels, **begun},
            overfit=cfg.data.overfit,
        )


if __name__ == "__main__":
    launch(main, Config)
