"""How long training waits for clips: stage one's steps on a device, fed from files as a run is."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.episode import TrackedEpisode
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Writer
from videopolicy.diffusion import NoiseConfig
from videopolicy.training.batches import Batches
from videopolicy.training.cache import StoredMaps
from videopolicy.training.objectives import Draws, draw
from videopolicy.training.setup import TrainConfig

N_EPISODES, LENGTH = 4, 40  # frames each
N_FIRST = 3  # steps that are not counted, as the loader starts


def make(folder: Path, backbone: SVDBackbone) -> ClipDataset:
    """Recorded noise that moves, and what a cache holds of it."""
    rng = np.random.default_rng(0)
    (width, height), n_frames = backbone.cfg.image_size, backbone.cfg.n_frames
    writer = Writer(folder / "data", backbone.fps_id + 1, "front", (width, height), "move")
    for _ in range(N_EPISODES):
        picture = rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        frames = np.stack([np.roll(picture, 4 * i, 1) for i in range(LENGTH)])
        writer.append(TrackedEpisode(frames, np.full((LENGTH, 2), 8.0), {}))
    clips = ClipDataset(Dataset(folder / "data"), [*range(N_EPISODES)], n_frames, n_frames - 1, (width, height), 0.0)
    shapes = {
        "posterior": (2 * backbone.vae.config.latent_channels, *backbone.latent_size),
        "embeddings": (backbone.image_encoder.config.projection_dim,),
    }
    for name, shape in shapes.items():
        for e in range(N_EPISODES):
            np.save(folder / f"{name}_{e}.npy", rng.normal(size=(LENGTH, *shape)).astype(np.float16))
            clips.maps.setdefault(name, {})[e] = StoredMaps(folder / f"{name}_{e}.npy")
    return clips.first_pictures()


def wait_share(
    backbone: SVDBackbone,
    device: torch.device,
    batch: int,
    n_steps: int,
    step: Callable[[dict[str, Tensor], Draws], Tensor],
) -> float:
    """Of the time that `n_steps` take, in the order of `training/loop.py`."""
    n_workers = min(4, os.cpu_count() or 1)
    cfg = TrainConfig(batch_size=batch, n_steps=n_steps + N_FIRST, num_workers=n_workers, mixed_precision="fp32")

    def draws(places: Sequence[int], number: int) -> Draws:
        return draw(NoiseConfig(), places, backbone, 0, number).to(device)

    with tempfile.TemporaryDirectory() as folder:
        batches = Batches(cfg, make(Path(folder), backbone), draws, 0, 0, 1, device, False)
        (part,) = batches.read(0)
        began = time.perf_counter()
        for number in range(cfg.n_steps):
            loss = step(part.data, part.draws)
            if number + 1 < cfg.n_steps:
                (part,) = batches.read(number + 1)
            float(loss)
            if number + 1 == N_FIRST:
                batches.waited, began = 0.0, time.perf_counter()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return batches.waited / (time.perf_counter() - began)
