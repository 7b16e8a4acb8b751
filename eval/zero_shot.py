"""How policies pretrained on circles read scenes with a robot, before they have seen one: pixel errors, and a sheet."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.figures import embed_file
from eval.statistics import bootstrap95
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.heads.heatmap import HeatmapHead
from videopolicy.heads.regression import PixelRegressionHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.viz.draw import save_heatmaps

N_CLIPS = 200  # evenly spread
N_ROWS, N_STEPS = 3, 4  # of a sheet: clips of either kind, and steps into the future


def heatmap_errors(folder: Path, robot: Path, circles: Path) -> list[dict]:
    """Mean distance [pixels at the policy's size] from the best pixel to the true one, of each pretrained run.

    On scenes of both kinds, with an interval over episodes; beside it that of an end effector which stays where it is.
    """
    rows = []
    for run, policy, steps in _runs(folder):
        for scenes, root in (("circles", circles), ("robot", robot)):
            if not (root / "meta/info.json").is_file():
                continue
            clips = _clips(root, policy, steps)
            chosen = spread(len(clips), N_CLIPS)
            batch = torch.utils.data.default_collate([_needed(clips[i]) for i in chosen])
            episodes = np.array([clips.samples[i][0] for i in chosen])
            error = _error(_pixels(policy, batch, clips.data, episodes.tolist()), batch)
            stays = _error(batch["start_pixel"][:, None].expand_as(batch["pixel"]), batch)
            rows.append(
                {
                    "run": run.name,
                    "scenes": scenes,
                    "n": int(np.isfinite(error).sum()),
                    "pixel": round(float(np.nanmean(error)), 2),
                    "bootstrap95": [round(x, 2) for x in bootstrap95(error, episodes)],
                    "stays": round(float(np.nanmean(stays)), 2),
                }
            )
    return rows


def transfer_sheet(folder: Path, robot: Path, circles: Path) -> list[tuple[str, str]]:
    """Of each pretrained run with heatmaps: rows of circle scenes, below them robot scenes, four steps each."""
    sheets = []
    for run, policy, steps in _runs(folder):
        if not isinstance(policy.head, HeatmapHead):
            continue
        batches = []
        for root in (circles, robot):
            if (root / "meta/info.json").is_file():
                clips = _clips(root, policy, steps)
                batches += [_needed(clips[i]) for i in spread(len(clips), N_ROWS + 2)[1:-1]]
        if not batches:
            continue
        batch = torch.utils.data.default_collate(batches)
        with torch.inference_mode():
            prediction = policy.read(batch["frames"][:, 0], batch["start_pixel"])
            pixel = policy.head.pixels(prediction)
        shown = np.linspace(0, steps - 1, N_STEPS).round().astype(int).tolist()
        few = {**batch, "pixel": batch["pixel"][:, shown], "valid": batch["valid"][:, shown]}
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "sheet.png"
            maps, size = prediction.heatmap[:, shown], policy.image_size
            save_heatmaps(path, few, maps, pixel[:, shown], size, n=len(maps))
            sheets.append((run.name, embed_file(path, "image/png")))
    return sheets


def _runs(folder: Path) -> Iterator[tuple[Path, FeaturePolicy, int]]:
    """Pretrained runs, their policies and steps."""
    for latest in sorted(folder.glob("*/latest")):
        policy, config = load(latest.parent, acting=False)
        yield latest.parent, policy, config["head"]["n_steps"]


def _needed(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """What all datasets have."""
    return {name: sample[name] for name in ("frames", "start_pixel", "pixel", "valid")}


def _clips(root: Path, policy: FeaturePolicy, n_steps: int) -> ClipDataset:
    data = Dataset(root)
    episodes = spread(len(data), 40)
    return ClipDataset(data, episodes, 1, n_steps, policy.image_size, 0.5)


@torch.inference_mode()
def _pixels(policy: FeaturePolicy, batch: dict[str, Tensor], data: Dataset, episodes: list[int]) -> Tensor:
    """Where it points to; of a head that regresses positions, where the camera sees those."""
    prediction = policy.read(batch["frames"][:, 0], batch["start_pixel"])
    if isinstance(policy.head, HeatmapHead | PixelRegressionHead):
        return policy.head.pixels(prediction)
    cameras = [data.camera_of(e) for e in episodes]
    sized = [camera.resized(policy.image_size) for camera in cameras]
    chunks = policy.head.decode(prediction, cameras)
    seen = [camera.project(chunk.position) for camera, chunk in zip(sized, chunks, strict=True)]
    return torch.from_numpy(np.stack(seen)).float()


def _error(pixel: Tensor, batch: dict[str, Tensor]) -> np.ndarray:
    """Of each clip, the mean over its valid steps; NaN where it has none."""
    distance = (pixel - batch["pixel"]).norm(dim=-1).where(batch["valid"], torch.nan)
    return distance.nanmean(-1).numpy()
