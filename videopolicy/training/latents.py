"""Latents of a dataset's frames, encoded once: a VAE costs more than the rest of a training step.

<dataset>/latents/<VAE identity>_<width>x<height>_<precision>/episode_NNNNNN.npy   (frame channel row col), scaled

Targets come from here, and the conditioning latent where no noise is added to its pixels (`backbone.augmentation`).
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import make_folder, replace
from videopolicy.errors import BadInput
from videopolicy.progress import Progress


@torch.no_grad()
def attach_latents(backbone: SVDBackbone, accelerator: Accelerator, *datasets: ClipDataset) -> None:
    """Give clips the latents of their frames, encoding the episodes that have none on disk yet."""
    wanted = [(clips, episode) for clips in datasets for episode in sorted({e for e, _ in clips.samples})]
    width, height = backbone.cfg.image_size
    folder = datasets[0].data.root / "latents" / f"{backbone.identity}_{width}x{height}_{accelerator.mixed_precision}"
    make_folder(folder)
    backbone.to(accelerator.device)
    progress = Progress("latents", len(wanted), 0)
    rank, world = accelerator.process_index, accelerator.num_processes
    for number, (clips, episode) in enumerate(wanted):
        path = folder / f"episode_{episode:06d}.npy"
        if number % world == rank and not path.is_file():
            frames = torch.from_numpy(clips.frames(episode)).to(accelerator.device)
            with accelerator.autocast():
                latents = backbone.encode(backbone.pixels(frames)[:, None])[:, 0]
            values = latents.half().cpu().numpy()
            replace(path, partial(_write, values=values))
            if number % 16 == 0:
                progress.update(number + 1, "")
    progress.close()
    accelerator.wait_for_everyone()
    for clips, episode in wanted:
        clips.latents[episode] = _read(folder / f"episode_{episode:06d}.npy", clips.data.length(episode))


def _write(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _read(path: Path, n_frames: int) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path}: {error}; remove it, it will be made again") from error
    if len(values) != n_frames:
        raise BadInput(f"{path} holds {len(values)} frames, its episode {n_frames}; remove it, it will be made again")
    return values
