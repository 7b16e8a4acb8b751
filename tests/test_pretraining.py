"""Pretraining in miniature: the corpus, the export and the evaluation of a video model, and what they refuse."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import without_sums
from flows import config
from safetensors.torch import load_file

from eval import collect, probe
from eval import video as eval_video
from train_stages import export, joint, vae
from videopolicy.backbones import pipeline
from videopolicy.config import load
from videopolicy.data.files import read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.manifest import trained_episodes


@pytest.mark.usefixtures("cold_simulators")
def test_the_corpus_is_continued_and_never_mixed(folder: Path, tmp_path: Path) -> None:
    """A clip that a crash took is recorded again, the same; another seed in the same folder is refused."""
    corpus = tmp_path / "corpus"
    shutil.copytree(folder / "corpus", corpus)
    info, clips = json.loads((corpus / "meta/info.json").read_text()), read_jsonl(corpus / "meta/para_episodes.jsonl")
    assert [(c["block"], c["episode"], c["view"]) for c in clips] == [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)]
    whole = Dataset(corpus)
    frames, state = whole.frames(3), whole.state(3)
    info |= {"total_episodes": 3, "total_frames": info["total_frames"] - whole.length(3)}
    (corpus / "meta/info.json").write_text(json.dumps(info))
    (corpus / "meta/para_episodes.jsonl").write_text("".join(json.dumps(c) + "\n" for c in clips[:3]))
    assert collect.main(config(collect.Config, "corpus", output=corpus))["new"] == 1
    again = Dataset(corpus)
    assert (again.frames(3) == frames).all()
    assert (again.state(3) == state).all()
    assert again.extras() == clips
    with pytest.raises(BadInput, match="which this configuration would not record there"):
        collect.main(config(collect.Config, "corpus", output=corpus, seed=1))


def test_a_line_that_info_does_not_count_is_no_clip(folder: Path, tmp_path: Path) -> None:
    """A crash between the two files of an episode leaves a line; the clip is recorded again, not skipped."""
    corpus = tmp_path / "corpus"
    shutil.copytree(folder / "corpus", corpus)
    info = json.loads((corpus / "meta/info.json").read_text())
    info |= {"total_episodes": 3, "total_frames": info["total_frames"] - Dataset(corpus).length(3)}
    (corpus / "meta/info.json").write_text(json.dumps(info))
    assert collect.main(config(collect.Config, "corpus", output=corpus))["new"] == 1
    assert len(Dataset(corpus)) == len(read_jsonl(corpus / "meta/para_episodes.jsonl")) == 4


def test_other_folders_are_never_continued_or_replaced(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="would not record there; name another output"):
        collect.main(config(collect.Config, "corpus", output=folder / "data"))
    with pytest.raises(BadInput, match=r"holds clips of \(112, 112\) pixels, not 128"):
        collect.main(config(collect.Config, "corpus", output=folder / "corpus", image_size=128, corpus__n_blocks=3))
    with pytest.raises(BadInput, match=r"corpus\.suites is empty"):
        collect.main(config(collect.Config, "corpus", output=tmp_path, corpus__suites="[]"))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="precious exists"):
        export.main(config(export.Config, "export", run=folder / "unet", output=precious, overwrite=True))
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_a_vae_is_no_video_model(folder: Path, tmp_path: Path) -> None:
    words = "checkpoint of stage 'vae'; allowed: 'video'"
    arguments = ["--data.root", str(folder / "corpus"), "--model", str(folder / "vae"), "--output", str(tmp_path)]
    with pytest.raises(BadInput, match=words):
        eval_video.main(load(eval_video.Config, arguments))
    here = {"run": tmp_path / "run", "data__root": folder / "data", "backbone__pretrained": folder / "weights"}
    with pytest.raises(BadInput, match=words):
        joint.main(config(joint.Config, "joint_para", init_from=folder / "vae", **here))
    with pytest.raises(BadInput, match="crop is 30; allowed: multiples of 4 up to 64"):
        vae.main(config(vae.Config, "vae", run=tmp_path / "vae", data__root=folder / "corpus", crop=30))


def test_exported_weights_are_those_of_the_run(folder: Path, tmp_path: Path) -> None:
    """In half precision; with a manifest of the corpus; never over what is there unless told so."""
    trained = load_file(checkpoint.find(folder / "unet") / "model.safetensors")
    shipped = pipeline.load(folder / "weights").unet.state_dict()
    assert all(torch.equal(trained[f"backbone.unet.{k}"].half().float(), v) for k, v in shipped.items())
    assert len((folder / "weights/corpus.jsonl").read_text().splitlines()) == 4
    before = (folder / "weights/README.md").read_text()
    cfg = config(export.Config, "export", run=folder / "unet", output=folder / "weights")
    with pytest.raises(BadInput, match="exists; name another output"):
        export.main(cfg)
    with pytest.raises(BadInput, match="checkpoint of stage 'vae'; allowed: 'video'"):
        export.main(replace(cfg, run=folder / "vae", output=tmp_path / "weights"))
    assert not (tmp_path / "weights").exists()
    export.main(replace(cfg, overwrite=True))
    assert (folder / "weights/README.md").read_text() == before


def test_a_video_model_is_measured_against_a_frozen_frame(folder: Path, tmp_path: Path) -> None:
    overrides = {"data__root": folder / "corpus", "data__n_val_episodes": 1, "n_clips": 4, "n_sample_steps": 2}
    overrides |= {"n_detector_steps": 20, "n_threads": 1}
    arguments = [x for k, v in overrides.items() for x in (f"--{k.replace('__', '.')}", str(v))]
    arguments += ["--model", str(folder / "weights"), "--scratch", str(folder / "unet"), "--output", str(tmp_path)]
    with pytest.raises(BadInput, match=r"weights is not good enough: psnr not above the frozen first frame's"):
        eval_video.main(load(eval_video.Config, [*arguments, "--require", "[psnr, motion]"]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    results = summary["results"]
    assert set(results) == {"model", "scratch", "first frame", "autoencoder"}
    assert all(len(r["psnr"]) == len(r["ssim"]) == len(r["keypoint_px"]) == 2 for r in results.values())
    assert results["first frame"]["motion"] == 0
    assert summary["beats_first_frame"] == {"psnr": False, "ssim": False}  # after four steps it cannot
    # The export is the same model but for its precision.
    for sigma, loss in results["model"]["v_loss"].items():
        assert loss == pytest.approx(results["scratch"]["v_loss"][sigma], rel=0.02)
    assert (tmp_path / "sheet.png").is_file()
    assert {"psnr", "ssim"} <= set(eval_video.failures(summary))
    with pytest.raises(BadInput, match=r"require is 'lpips'; allowed: 'psnr', 'ssim', 'motion'"):
        eval_video.main(load(eval_video.Config, [*arguments, "--require", "[lpips]"]))
    with pytest.raises(BadInput, match=r"no clips in .*at most one frame each that differs by data.min_change 250"):
        eval_video.main(load(eval_video.Config, [*arguments, "--data.min_change", "250"]))


def test_a_video_model_is_not_measured_on_what_it_was_trained_on(folder: Path, tmp_path: Path) -> None:
    """Clips of the corpus that were held out are marked in the manifest; a run's configuration says it too."""
    rows = read_jsonl(folder / "weights/corpus.jsonl")
    assert sorted(row["held_out"] for row in rows) == [False, False, True, True]
    corpus = tmp_path / "corpus"
    shutil.copytree(folder / "corpus", corpus)
    without_sums(corpus)
    lines = (corpus / "meta/para_episodes.jsonl").read_text().splitlines()
    swapped = [lines[i] for i in (2, 3, 0, 1)]  # the held-out event is another one here
    (corpus / "meta/para_episodes.jsonl").write_text("".join(line + "\n" for line in swapped))
    arguments = ["--data.n_val_episodes", "1", "--n_clips", "4", "--output", str(tmp_path / "out")]
    with pytest.raises(BadInput, match=r"weights was trained on episode \d of .* and 1 other"):
        eval_video.main(
            load(eval_video.Config, [*arguments, "--model", str(folder / "weights"), "--data.root", str(corpus)])
        )
    data = Dataset(folder / "corpus")
    seen = trained_episodes(folder / "unet", data)
    assert (
        seen == {e for e, row in enumerate(rows) if not row["held_out"]} == trained_episodes(folder / "weights", data)
    )
    # Tuned on other clips, it has still seen what its start has seen.
    assert trained_episodes(folder / "video", data) == seen


def test_frozen_features_are_read_beside_an_image_networks(folder: Path, tmp_path: Path) -> None:
    """The head learns, and each source of features is measured on the same held-out clips."""
    arguments = ["--model", str(folder / "weights"), "--feature_blocks", "[0, 1]", "--data.root", str(folder / "data")]
    arguments += ["--data.n_val_episodes", "1", "--n_clips", "12", "--n_val", "6", "--output", str(tmp_path)]
    arguments += ["--n_threads", "1"]
    few, many = (
        probe.main(load(probe.Config, [*arguments, "--n_steps", str(n), "--reference", reference]))["results"]
        for n, reference in ((1, "false"), (40, "true"))
    )
    assert set(few) == {"model"}
    assert set(many) == {"model", "EfficientNet-Lite0"}
    assert many["model"]["position_mm"] < 0.8 * few["model"]["position_mm"]
    assert json.loads((tmp_path / "summary.json").read_text())["results"] == many
    with pytest.raises(BadInput, match="n_steps is 0; allowed: at least 1"):
        probe.main(load(probe.Config, [*arguments, "--n_steps", "0"]))
    with pytest.raises(BadInput, match=r"learning rate of head is -1\.0; allowed: 0 to 1"):
        probe.main(load(probe.Config, [*arguments, "--reference", "false", "--lr", "-1"]))
