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
    n_episodes = len({*clips.shown, *val_clips.shown})
    seconds = time.perf_counter() - began
    accelerator.print(f"encoded {made['posterior']} of {n_episodes} episodes in {seconds:.0f} s, beside {data.root}")
    return made


if __name__ == "__main__":
    launch(main, Config)
