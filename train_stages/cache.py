"""Encode a dataset's frames for training, as its first step would: latents and image embeddings, kept beside it.

python -m train_stages.cache --config_path configs/demo/video.yaml

Takes stage one's configurations; stage two on the same data and video model finds the same files.
"""

import time

from train_stages.video import Config
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.config import dump, launch
from videopolicy.data.dataset import open_splits
from videopolicy.training.latents import attach_latents
from videopolicy.training.precision import with_precision
from videopolicy.training.setup import make_accelerator


def main(cfg: Config) -> dict[str, int]:
    """How many episodes' posteriors and embeddings were missing."""
    cfg = with_precision(cfg)
    accelerator = make_accelerator(cfg.train)
    n_steps = cfg.backbone.n_frames - 1
    data, clips, val_clips = open_splits(cfg.data, cfg.backbone.n_frames, n_steps, cfg.backbone.image_size)
    backbone = SVDBackbone(cfg.backbone, data.fps)
    accelerator.print(dump({"data": cfg.data, "backbone": cfg.backbone}))
    if cfg.dry_run:
        return {}
    began = time.perf_counter()
    made = attach_latents(backbone, accelerator, clips, val_clips)
    folder = data.root / "posterior" / f"{backbone.identity}_{'x'.join(map(str, cfg.backbone.image_size))}"
    size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
    accelerator.print(
        f"encoded {made['posterior']} of {len(clips.shown) + len(val_clips.shown)} episodes in"
        f" {time.perf_counter() - began:.0f} s; {folder} holds {size:.0f} MiB"
    )
    return made


if __name__ == "__main__":
    launch(main, Config)
