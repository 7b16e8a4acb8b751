"""What is looked at while a video model is trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from flows import config
from PIL import Image

from train_stages import joint, video
from train_stages.previews import HELD, PreviewConfig, Previews, panels
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.video import read_video
from videopolicy.errors import BadInput
from videopolicy.heads.para import ParaPrediction


def run(script: object, folder: Path, data: Path, weights: Path, **more: object) -> list[dict]:
    keys: dict[str, object] = {"run": folder, "data__root": data, "backbone__pretrained": weights}
    keys |= {"backbone__n_frames": 4, "backbone__grid": 8, "train__n_steps": 2, "train__val_every": 1}
    keys |= {"init_from": "null", "head__n_steps": 3, "leak_clips": 0} if script is joint else {}
    script.main(config(script.Config, "joint_para" if script is joint else "video", **{**keys, **more}))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if any(k.startswith("val/preview") for k in line)]


def test_stage_one_is_looked_at_every_so_often(written_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """And after its last step; the same clips from the same noise."""
    more = {"preview__every": 1, "preview__clips": 2}
    lines = run(video, tmp_path / "run", written_dataset, pipeline_folder, **more)
    assert [line["step"] for line in lines] == [0, 1]
    names = sorted(p.name for p in (tmp_path / "run/previews").iterdir())
    assert names == ["clips_000001.mp4", "clips_000001.png", "clips_000002.mp4", "clips_000002.png"]
    pictures = read_video(tmp_path / "run/previews/clips_000001.mp4", 4 * HELD)
    assert pictures.shape[1:] == (2 * 64, 2 * 64, 3)
    before, after = (np.asarray(Image.open(tmp_path / f"run/previews/{n}")) for n in names[1::2])
    assert np.array_equal(before[:64], after[:64])  # the real clip, above its generated twin
    assert not np.array_equal(before[64:128], after[64:128])
    assert all(line["val/preview/motion"] > 0 for line in lines)
    assert all(line[f"val/diffusion/sigma_{sigma:g}"] > 0 for line in lines for sigma in video.SIGMA_BUCKETS)
    last = run(video, tmp_path / "last", written_dataset, pipeline_folder, preview__clips=1)
    assert [line["step"] for line in last] == [1]
    assert run(video, tmp_path / "none", written_dataset, pipeline_folder, preview__clips=0) == []


@pytest.mark.parametrize("kind", ["para", "regression"])
def test_stage_two_shows_where_the_head_points(
    kind: str, written_dataset: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    """On what was generated; and how far the gripper that was generated is from there."""
    (line,) = run(joint, tmp_path / "run", written_dataset, pipeline_folder, head__kind=kind)
    assert {"val/preview/motion", "val/preview/alignment_px", "val/preview/generated_px"} <= line.keys()
    pictures = read_video(tmp_path / "run/previews/clips_000002.mp4", 4 * HELD)
    assert pictures.shape[1:] == (2 * 64, 3 * 64, 3)


def test_a_still_is_noticed(
    written_dataset: Path, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    svd = SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8)
    backbone = SVDBackbone(svd, 4)
    backbone.generate = lambda first, *_: first[:, None].repeat(1, 4, 1, 1, 1)
    _, clips, val_clips = open_splits(DataConfig(written_dataset, n_val_episodes=1), 4, 3, (64, 64))
    cfg = PreviewConfig(clips=2, every=1)
    previews = Previews(cfg, backbone, clips, val_clips, tmp_path, 1, 0, Accelerator(cpu=True))
    assert previews.at(1) == {"preview/motion": 0.0}
    assert "generated clips hardly move (motion energy 0.00 of real ones')" in capsys.readouterr().out


def test_the_heatmap_is_where_the_head_points() -> None:
    """Of each frame after the first its own step's; a blue dot at the predicted pixel."""
    clips = torch.full((1, 3, 32, 32, 3), 100, dtype=torch.uint8)
    logits = torch.full((1, 4, 1, 8, 8), -9.0)
    logits[0, 1, 0, 2, 6], logits[0, 3, 0, 6, 1] = 9.0, 9.0
    pixels = torch.tensor([[[0.0, 0.0], [26.0, 10.0], [0.0, 0.0], [6.0, 26.0]]])
    out = panels(clips, clips, (ParaPrediction(logits, torch.zeros(1, 1, 1, 8, 8)), pixels))
    assert out.shape == (3 * HELD, 32, 96, 3)
    first, second, third = out[::HELD, :, 64:]
    assert (first == 100).all()
    for frame, (u, v) in ((second, (26, 10)), (third, (6, 26))):
        assert tuple(frame[v, u]) == (80, 160, 255)
        change = np.abs(frame.astype(int) - 100).max(-1)
        near = np.zeros((32, 32), bool)
        near[max(v - 6, 0) : v + 7, max(u - 6, 0) : u + 7] = True
        assert change[near].mean() > 5 * change[~near].mean()


def test_impossible_previews_are_refused() -> None:
    with pytest.raises(BadInput, match=r"preview.every is 0; allowed: at least 1"):
        PreviewConfig(every=0)
