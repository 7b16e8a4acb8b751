"""Sheets of heatmaps on test scenes."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from eval.episodes import video_file
from eval.figures import embed_file
from videopolicy.camera import Camera
from videopolicy.data.video import read_video
from videopolicy.heads.para import ParaHead
from videopolicy.images import resized
from videopolicy.policy import load
from videopolicy.types import Observation
from videopolicy.viz.draw import save_heatmaps


def heatmap_sheet(folder: Path, run: Path, records: list[dict], n: int = 4, n_shown: int = 4) -> str | None:
    """Heatmaps of a pixel-aligned policy on the first pictures of its test episodes; None for other policies.

    One row an episode: the picture with the start keypoint, then the maps of `n_shown` steps, the first and the last
    among them, each with its peak in blue.
    """
    if not run.is_dir():
        return None
    policy, _ = load(run)
    if not isinstance(policy.head, ParaHead):
        return None
    observations = []
    for r in sorted(records, key=lambda r: r["episode"])[:n]:
        video = video_file(folder, r)
        image = read_video(video, r["chunks"] + 1)[0]
        observations.append(Observation(image, Camera.from_json(r["camera"]), np.array(r["start"]), 1.0, 0.0))
    size = policy.image_size
    cameras = [o.camera.resized(size) for o in observations]
    with torch.inference_mode():
        prediction = policy.predict(observations)
        pixel = policy.head.locate(prediction, cameras).pixel.cpu()
    steps = np.linspace(0, policy.head.n_steps - 1, n_shown).round().astype(int).tolist()
    heatmap, pixel = prediction.heatmap.cpu()[:, steps], pixel[:, steps]
    batch = {
        "frames": torch.from_numpy(np.stack([resized(o.image, size) for o in observations]))[:, None],
        "start_pixel": torch.from_numpy(
            np.stack([c.project(o.ee_position) for c, o in zip(cameras, observations, strict=True)])
        ),
        "valid": torch.zeros(pixel.shape[:2], dtype=torch.bool),
        "pixel": pixel,
    }
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "sheet.png"
        save_heatmaps(path, batch, heatmap, pixel, size)
        return embed_file(path, "image/png")
