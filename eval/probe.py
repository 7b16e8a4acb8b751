"""How far trained policies follow what is shifted before them (`eval/equivariance.py`):

python -m eval.probe --policies "{para: runs/light/para, regression: runs/light/regression}"

Without policies: what can be read off frozen features, by a small pixel-aligned head on a video model's, and on an
ImageNet network's:

python -m eval.probe --model weights/svd-tiny
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eval.equivariance import EquivarianceConfig, measure
from eval.video import open_model, refuse_trained
from videopolicy.backbones.backbone import FeatureMap, splat, to_pixels
from videopolicy.backbones.image import Lite0Features
from videopolicy.batch import settle
from videopolicy.bins import Bins
from videopolicy.config import dump, launch
from videopolicy.data.dataset import ClipDataset, DataConfig, open_splits
from videopolicy.data.files import make_folder, write_json
from videopolicy.data.format import read_info
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.errors import BadInput, at_least_one
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead
from videopolicy.progress import Progress
from videopolicy.training.optimizer import lr_factor, make_optimizer
from videopolicy.training.precision import has_bf16
from videopolicy.training.setup import TrainConfig

BATCH = 16
WEIGHTS = {"spatial": 0.25, "height": 0.5, "gripper": 4.0}  # about their inverse sizes half way through
Features = Callable[[Tensor, Tensor], FeatureMap]


@dataclass(frozen=True)
class Schedule:
    """How much a head learns from features that stay as they are, and is measured on."""

    n_clips: int = 800  # of training episodes, evenly spread
    n_val: int = 96  # of held-out ones
    n_steps: int = 300
    lr: float = 2e-3
    n_threads: int = 2
    seed: int = 0

    def check(self) -> None:
        """`BadInput` for what cannot be counted."""
        at_least_one(self, "n_clips", "n_val", "n_steps", "n_threads")


@dataclass(frozen=True)
class Config(Schedule):
    """Whose predictions, and what they should follow; or whose features, and how long the head may learn."""

    kind: Literal["features", "equivariance"] | None = None  # null: equivariance of policies where there are any
    policies: dict[str, str] = field(default_factory=dict)  # of equivariance: name to training run
    equivariance: EquivarianceConfig = EquivarianceConfig()
    model: Path = Path("weights/svd-tiny")  # a pipeline folder, or a stage-one run
    feature_blocks: tuple[int, ...] = (1, 2, 3)  # of a folder; a run says itself which ones it reads
    grid: int = 24  # and how they are resized
    reference: bool = True  # also EfficientNet-Lite0's features of the first frame
    data: DataConfig = DataConfig()
    output: Path = Path("runs/probe")


def main(cfg: Config) -> dict:
    print(dump(cfg))
    cfg.check()
    torch.set_num_threads(cfg.n_threads)
    if cfg.kind == "features" and cfg.policies:
        raise BadInput(
            "kind is 'features', but policies are named; allowed: kind equivariance, which measures policies, or none"
        )
    if cfg.kind == "equivariance" or cfg.policies:
        return measure(cfg.policies, cfg.equivariance, cfg.output, cfg.seed)
    torch.manual_seed(cfg.seed)  # of the start keypoint's mark
    model = open_model(cfg.model, read_info(cfg.data.root)["fps"], feature_blocks=cfg.feature_blocks, grid=cfg.grid)
    size, n_steps = model.cfg.image_size, model.n_feature_frames
    data, clips, val_clips = open_splits(cfg.data, model.cfg.n_frames, n_steps, size)
    refuse_trained(cfg.model, data, val_clips, cfg.data)
    make_folder(cfg.output)
    sources: dict[str, Features] = {"model": model.forward}
    if cfg.reference:
        sources["EfficientNet-Lite0"] = reference_features(model.cfg.grid, size, cfg.seed)
    results = {}
    for name, features in sources.items():
        sets = [
            extract(name, features, c, spread(len(c), n)) for c, n in ((clips, cfg.n_clips), (val_clips, cfg.n_val))
        ]
        results[name] = probe(cfg, clips, sets, data, held_out(val_clips, cfg.n_val))
    counts = {"n_clips": min(cfg.n_clips, len(clips)), "n_val": min(cfg.n_val, len(val_clips))}
    blocks = {"feature_blocks": list(model.cfg.feature_blocks), "n_steps": cfg.n_steps}
    summary = {"model": str(cfg.model), "data": str(cfg.data.root), **counts, **blocks, "results": results}
    write_json(cfg.output / "summary.json", summary)
    for name, r in results.items():
        print(
            f"{name:<20} waypoints {r['position_mm']:6.1f} mm (median {r['position_median_mm']:.1f}),"
            f" {r['pixel']:.2f} px of {size[0]}, gripper {100 * r['gripper_accuracy']:.1f} %"
        )
    return summary


def reference_features(grid: int, image_size: tuple[int, int], seed: int) -> Features:
    """EfficientNet-Lite0's features of the first frame with the start keypoint marked, as one map."""
    network = Lite0Features()
    mark = torch.randn(Lite0Features.channels, generator=torch.Generator().manual_seed(seed))

    def features(images: Tensor, start_pixel: Tensor) -> FeatureMap:
        start = splat(start_pixel, image_size, grid, grid) * mark[:, None, None]
        return FeatureMap((network(to_pixels(images), grid) + start)[:, None])

    return features


@torch.no_grad()
def extract(name: str, features: Features, clips: ClipDataset, chosen: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Features (clip frame channel row col) of chosen clips' first frames, and their labels."""
    progress, maps, labels = Progress(f"features of {name}", len(chosen), 0), [], []
    for i in range(0, len(chosen), 8):
        batch = torch.utils.data.default_collate([clips[j] for j in chosen[i : i + 8]])
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
            maps.append(features(batch["frames"][:, 0], batch["start_pixel"]).dense.half())
        labels.append({k: batch[k] for k in ("pixel", "height", "gripper", "position", "valid")})
        progress.update(min(i + 8, len(chosen)), "")
    progress.close()
    return torch.cat(maps), {k: torch.cat([part[k] for part in labels]) for k in labels[0]}


def held_out(clips: ClipDataset, n: int) -> list[int]:
    """The episodes of `n` clips, evenly spread."""
    return [clips.samples[i][0] for i in spread(len(clips), n)]


def probe(
    cfg: Schedule,
    clips: ClipDataset,
    sets: list[tuple[Tensor, dict[str, Tensor]]],
    data: Dataset,
    episodes: list[int],
    n_first: int | None = None,
) -> dict[str, float]:
    """Train a head on the first set of features and measure it on the second, of `episodes`; on its first steps."""
    (maps, labels), (val_maps, val) = sets
    torch.manual_seed(cfg.seed)
    low, high = clips.label_statistics()["height"]
    shape, (rows, cols) = (maps.shape[2], maps.shape[1], val["height"].shape[1]), maps.shape[-2:]
    head = ParaHead(ParaConfig(), *shape, (rows, cols), clips.image_size, Bins(low - 0.02, high + 0.02, 32), 1.0)
    schedule = TrainConfig(n_steps=cfg.n_steps, warmup=cfg.n_steps // 10, schedule="cosine")
    optimizer = make_optimizer({"head": (list(head.parameters()), cfg.lr)}, schedule)
    progress = Progress("probe", cfg.n_steps, 0)
    generator = torch.Generator().manual_seed(cfg.seed)
    with torch.no_grad():
        head(FeatureMap(maps[:BATCH].float()))
    settle(head)  # it standardises features by what it has been shown
    for step in range(cfg.n_steps):
        optimizer.param_groups[0]["lr"] = cfg.lr * lr_factor(schedule, step)
        chosen = torch.randperm(len(maps), generator=generator)[:BATCH]
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
            prediction = head(FeatureMap(maps[chosen].float()))
        losses = head.loss(prediction, Targets.of({k: v[chosen] for k, v in labels.items()}))
        optimizer.zero_grad()
        torch.stack([w * losses[k] for k, w in WEIGHTS.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        settle(head)
        progress.update(step + 1, " ".join(f"{k} {float(v.detach()):.2f}" for k, v in losses.items()))
    progress.close()
    head.eval()
    with torch.no_grad():
        chunks = [
            chunk
            for i in range(0, len(val_maps), BATCH)
            for chunk in head.decode(
                head(FeatureMap(val_maps[i : i + BATCH].float())), [data.camera_of(e) for e in episodes[i : i + BATCH]]
            )
        ]
    valid = val["valid"].numpy() & (np.arange(val["valid"].shape[1]) < (n_first or val["valid"].shape[1]))
    error = np.linalg.norm(np.stack([c.position for c in chunks]) - val["position"].numpy(), axis=-1)[valid]
    pixels = np.stack([c.pixel for c in chunks if c.pixel is not None])
    closed = np.stack([c.gripper for c in chunks]) < 0.5
    return {
        "position_mm": float(1000 * error.mean()),
        "position_median_mm": float(1000 * np.median(error)),
        "pixel": float(np.linalg.norm(pixels - val["pixel"].numpy(), axis=-1)[valid].mean()),
        "gripper_accuracy": float((closed == (val["gripper"].numpy() < 0.5))[valid].mean()),
    }


if __name__ == "__main__":
    launch(main, Config)
