"""How policies pretrained on circles read scenes with a robot, before they have seen one: pixel errors, and a sheet."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.figures import embed_file
from eval.statistics import bootstrap95
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import make_folder, read_json, reading, write_json
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread
from videopolicy.errors import BadInput
from videopolicy.heads.heatmap import HeatmapHead
from videopolicy.heads.regression import PixelRegressionHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.training import checkpoint
from videopolicy.viz.draw import save_heatmaps

N_CLIPS = 200  # evenly spread
N_ROWS, N_STEPS = 3, 4  # of a sheet: clips of either kind, and steps into the future
FOLDER = "zero_shot"
COLUMNS = ("run", "scenes", "n", "pixel", "bootstrap95", "stays")


def measure(folder: Path, robot: Path, circles: Path) -> None:
    """Of each finished run under `folder`/pretrain, `folder`/zero_shot/<run>.json and, of heatmaps, a sheet, <run>.png.

    What is there of the same weights and data stays. A run that cannot be read is named in a line and left out.
    """
    data = {
        scenes: Dataset(root)
        for scenes, root in (("circles", circles), ("robot", robot))
        if (root / "meta/info.json").is_file()
    }
    for latest in sorted((folder / "pretrain").glob("*/latest")):
        try:
            _measure(latest.parent, folder / FOLDER, data)
        except BadInput as error:
            print(f"left out {latest.parent.name} of what circles say of robots: {error}", flush=True)


def read(folder: Path) -> tuple[list[dict], list[tuple[str, str]]]:
    """Rows of errors, and sheets by their runs' names, of all runs that were measured; likewise."""
    rows, sheets = [], []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            with reading(path):
                rows += [{name: row[name] for name in COLUMNS} for row in read_json(path)["rows"]]
        except BadInput as error:
            print(f"left out: {error}", flush=True)
        if path.with_suffix(".png").is_file():
            sheets.append((path.stem, embed_file(path.with_suffix(".png"), "image/png")))
    return rows, sheets


def _measure(run: Path, folder: Path, data: dict[str, Dataset]) -> None:
    found = checkpoint.find(run)
    if checkpoint.read_state(found)["step"] < checkpoint.read_config(found)["train"]["n_steps"]:
        return
    about = {name: each.digest for name, each in data.items()} | {"weights": checkpoint.weights_digest(found)}
    path = folder / f"{run.name}.json"
    if path.is_file() and {name: value for name, value in read_json(path).items() if name != "rows"} == about:
        return
    policy, _ = load(found, acting=False)
    clips = {scenes: _clips(each, policy) for scenes, each in data.items()}
    rows = [{"run": run.name, "scenes": scenes, **_errors(policy, its)} for scenes, its in clips.items()]
    make_folder(folder)
    if isinstance(policy.head, HeatmapHead) and clips:
        _write_sheet(path.with_suffix(".png"), policy, policy.head, list(clips.values()))
    write_json(path, about | {"rows": rows})


def _errors(policy: FeaturePolicy, clips: ClipDataset) -> dict:
    """Mean distance [pixels at the policy's size] from the best pixel to the true one, with an interval over episodes.

    Beside it that of an end effector which stays where it is.
    """
    chosen = spread(len(clips), N_CLIPS)
    batch = torch.utils.data.default_collate([_needed(clips[i]) for i in chosen])
    episodes = np.array([clips.samples[i][0] for i in chosen])
    error = _error(_pixels(policy, batch, clips.data, episodes.tolist()), batch)
    stays = _error(batch["start_pixel"][:, None].expand_as(batch["pixel"]), batch)
    return {
        "n": int(np.isfinite(error).sum()),
        "pixel": round(float(np.nanmean(error)), 2),
        "bootstrap95": [round(x, 2) for x in bootstrap95(error, episodes)],
        "stays": round(float(np.nanmean(stays)), 2),
    }


@torch.inference_mode()
def _write_sheet(path: Path, policy: FeaturePolicy, head: HeatmapHead, clips: list[ClipDataset]) -> None:
    """Rows of circle scenes, below them robot scenes, four steps each."""
    its = [_needed(each[i]) for each in clips for i in spread(len(each), N_ROWS + 2)[1:-1]]
    batch = torch.utils.data.default_collate(its)
    prediction = policy.read(batch["frames"][:, 0], batch["start_pixel"], batch["start_height"])
    pixel = head.pixels(prediction)
    shown = np.linspace(0, head.n_steps - 1, N_STEPS).round().astype(int).tolist()
    few = {**batch, "pixel": batch["pixel"][:, shown], "valid": batch["valid"][:, shown]}
    save_heatmaps(path, few, prediction.heatmap[:, shown], pixel[:, shown], policy.image_size, n=len(its))


def _needed(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """What all datasets have."""
    return {name: sample[name] for name in ("frames", "start_pixel", "start_height", "pixel", "valid")}


def _clips(data: Dataset, policy: FeaturePolicy) -> ClipDataset:
    return ClipDataset(data, spread(len(data), 40), 1, policy.head.n_steps, policy.image_size, 0.5)


@torch.inference_mode()
def _pixels(policy: FeaturePolicy, batch: dict[str, Tensor], data: Dataset, episodes: list[int]) -> Tensor:
    """Where it points to; of a head that regresses positions, where the camera sees those."""
    prediction = policy.read(batch["frames"][:, 0], batch["start_pixel"], batch["start_height"])
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
