"""What is cached of frames is what their networks give, made once; a cache that does not fit is refused or replaced."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from builders import without_sums
from flows import config

from train_stages import cache, video
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import write_video
from videopolicy.diffusion import NoiseConfig
from videopolicy.errors import BadInput
from videopolicy.training.cache import StoredMaps
from videopolicy.training.latents import attach_latents
from videopolicy.training.objectives import VideoObjective, clean, draw


@pytest.fixture
def backbone(pipeline_folder: Path) -> SVDBackbone:
    torch.manual_seed(0)
    return SVDBackbone(SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8), 4)


def clips(root: Path) -> ClipDataset:
    return ClipDataset(Dataset(root), [0, 1, 2], 4, 3, (64, 64), 1.0)


def test_cached_latents_are_those_of_the_clip(backbone: SVDBackbone, small_dataset: Path) -> None:
    """Also past an episode's end, where the last frame is held; and the loss is the same with them and without."""
    plain, cached = clips(small_dataset), clips(small_dataset)
    attach_latents(backbone, Accelerator(), cached)
    for i in (0, len(plain) - 1):
        expected = backbone.encode(backbone.pixels(plain[i]["frames"])[None])[0]
        mean, log_variance = cached[i]["posterior"].chunk(2, 1)
        torch.testing.assert_close(mean * backbone.vae.config.scaling_factor, expected, rtol=2e-3, atol=2e-3)
        assert torch.isfinite(log_variance).all()
        embedding = backbone.embed(backbone.pixels(plain[i]["frames"]))
        torch.testing.assert_close(cached[i]["embeddings"], embedding, rtol=2e-3, atol=2e-3)
    batches = [torch.utils.data.default_collate([c[0], c[3]]) for c in (plain, cached)]
    draws = draw(NoiseConfig(), range(2), backbone, 0, 0)
    with torch.no_grad():
        one, other = (VideoObjective(backbone).eval()(b, draws)["diffusion"] for b in batches)
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_without_augmentation_the_cached_latent_is_the_condition(backbone: SVDBackbone, small_dataset: Path) -> None:
    """The same loss as encoding the conditioning frame, at strength zero; with it, the frame is encoded with noise."""
    cached = clips(small_dataset)
    attach_latents(backbone, Accelerator(), cached)
    batch = torch.utils.data.default_collate([cached[0], cached[3]])
    encoded = {"n": 0}
    backbone.vae.encoder.register_forward_hook(lambda *_: encoded.update(n=encoded["n"] + 1))
    losses = {}
    for mode in ("none", "live"):
        backbone.cfg = dataclasses.replace(backbone.cfg, augmentation=mode)
        draws = dataclasses.replace(draw(NoiseConfig(), range(2), backbone, 0, 0), dropout=torch.ones(2))
        assert bool((draws.augmentation > 0).all()) == (mode == "live")
        with torch.no_grad():
            losses[mode] = VideoObjective(backbone).eval()(batch, draws)["diffusion"]
        assert encoded["n"] == (mode == "live")
    silent = dataclasses.replace(draws, augmentation=torch.zeros(2))
    with torch.no_grad():
        expected = VideoObjective(backbone).eval()(batch, silent)["diffusion"]
    torch.testing.assert_close(losses["none"], expected, rtol=5e-3, atol=1e-3)
    assert losses["live"] != losses["none"]


def test_an_episode_shorter_than_a_clip_is_refused(small_dataset: Path) -> None:
    """No clip of it would be whole."""
    with pytest.raises(BadInput, match=r"episode 1 of .* has 4 frames; allowed: at least the 5 of a clip"):
        ClipDataset(Dataset(small_dataset), [0, 1, 2], 5, 4, (64, 64), 1.0)
    with pytest.raises(BadInput, match=r"episode 0 of .* has 6 frames, and 2 others are as short; allowed: at least"):
        ClipDataset(Dataset(small_dataset), [0, 1, 2], 7, 6, (64, 64), 1.0)


def test_frames_are_encoded_once(backbone: SVDBackbone, small_dataset: Path) -> None:
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    files = sorted(small_dataset.glob("posterior/*/*.npy"))
    assert [f.name.rsplit("_", 1)[0] for f in files] == [f"episode_{i:06d}" for i in range(3)]
    before = [f.stat().st_mtime_ns for f in files]
    files[1].unlink()
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    after = [f.stat().st_mtime_ns for f in files]
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] > before[1]


def test_another_vae_has_another_cache(backbone: SVDBackbone, small_dataset: Path) -> None:
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    backbone.identity = "another"
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    assert len(list((small_dataset / "posterior").iterdir())) == 2


def test_another_video_has_another_cache(backbone: SVDBackbone, small_dataset: Path) -> None:
    """As when a dataset was recorded anew in the same folder: what was made of the old video goes."""
    attach_latents(backbone, Accelerator(), clips(without_sums(small_dataset)))
    data = Dataset(small_dataset)
    old = next(small_dataset.glob("posterior/*/episode_000001_*.npy"))
    write_video(data.video(1), 255 - data.frames(1), 4)
    made = attach_latents(backbone, Accelerator(), again := clips(small_dataset))
    assert made == {"posterior": 1, "embeddings": 1}
    assert not old.exists()
    expected = backbone.posterior(backbone.pixels(torch.from_numpy(again.frames(1))))
    torch.testing.assert_close(
        torch.from_numpy(again.maps["posterior"][1][np.arange(4)]).float(), expected, rtol=2e-3, atol=2e-3
    )
    assert attach_latents(backbone, Accelerator(), clips(small_dataset)) == {"posterior": 0, "embeddings": 0}


def test_targets_may_be_sampled(backbone: SVDBackbone, small_dataset: Path) -> None:
    """From the posterior's mean and spread, by noise that belongs to the sample; the cache serves both."""
    attach_latents(backbone, Accelerator(), cached := clips(small_dataset))
    batch = torch.utils.data.default_collate([cached[0], cached[3]])
    assert draw(NoiseConfig(), range(2), backbone, 0, 0).posterior is None
    backbone.cfg = dataclasses.replace(backbone.cfg, targets="sample")
    draws = draw(NoiseConfig(), range(2), backbone, 0, 0)
    mean, log_variance = batch["posterior"].chunk(2, 2)
    expected = (mean + (0.5 * log_variance).exp() * draws.posterior) * backbone.vae.config.scaling_factor
    torch.testing.assert_close(clean(backbone, batch, draws), expected)
    frames_only = {"frames": batch["frames"]}
    torch.testing.assert_close(clean(backbone, frames_only, draws), expected, rtol=5e-3, atol=5e-3)
    silent = dataclasses.replace(draws, posterior=None)
    torch.testing.assert_close(clean(backbone, batch, silent), mean * backbone.vae.config.scaling_factor)


def test_the_embedding_is_not_computed_again(backbone: SVDBackbone, small_dataset: Path) -> None:
    attach_latents(backbone, Accelerator(), cached := clips(small_dataset))
    batch = torch.utils.data.default_collate([cached[0], cached[3]])
    ran = []
    backbone.image_encoder.register_forward_hook(lambda *_: ran.append(1))
    draws = draw(NoiseConfig(), range(2), backbone, 0, 0)
    with torch.no_grad():
        VideoObjective(backbone).eval()(batch, draws)
        assert not ran
        del batch["embeddings"]
        VideoObjective(backbone).eval()(batch, draws)
        assert len(ran) == 1


def test_training_reads_the_first_picture_only(backbone: SVDBackbone, small_dataset: Path) -> None:
    """The rest of a clip is in the cache: the losses are the same; and of a video only what is asked for is decoded."""
    attach_latents(backbone, Accelerator(), whole := clips(small_dataset))
    draws = draw(NoiseConfig(), range(2), backbone, 0, 0)
    losses = []
    for dataset in (whole, whole.first_pictures()):
        batch = torch.utils.data.default_collate([dataset[0], dataset[3]])
        losses.append((batch["frames"].shape[1], VideoObjective(backbone).eval()(batch, draws)["diffusion"]))
    assert [n for n, _ in losses] == [4, 1]
    assert losses[0][1] == losses[1][1]
    nothing = ClipDataset(Dataset(small_dataset), [0, 1, 2], 4, 3, (64, 64), cache_gb=0.0)
    for i in (0, 2, len(whole) - 1):
        assert torch.equal(nothing[i]["frames"], whole[i]["frames"])
        assert torch.equal(nothing.first_pictures()[i]["frames"], whole[i]["frames"][:1])


def test_the_command(small_dataset: Path, pipeline_folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Stage one then has nothing to encode."""
    keys = {"data__root": small_dataset, "backbone__pretrained": pipeline_folder, "backbone__n_frames": 4}
    cfg = config(video.Config, "video", **keys, backbone__grid=8)
    assert cache.main(cfg) == {"posterior": 3, "embeddings": 3}
    assert "encoded 3 of 3 episodes" in capsys.readouterr().out
    assert cache.main(cfg) == {"posterior": 0, "embeddings": 0}


def test_a_cache_that_does_not_fit_is_refused(backbone: SVDBackbone, small_dataset: Path) -> None:
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    path = next(small_dataset.glob("posterior/*/episode_000001_*.npy"))
    np.save(path, np.load(path)[:-1])
    with pytest.raises(BadInput, match="holds 3 frames, its episode 4; remove it"):
        attach_latents(backbone, Accelerator(), clips(small_dataset))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadInput, match=r"episode_000001_\w+.npy is damaged: .*; remove it"):
        attach_latents(backbone, Accelerator(), clips(small_dataset))
    np.save(path, np.asfortranarray(np.zeros((4, 3, 2), np.float16)))
    with pytest.raises(BadInput, match="is damaged: its frames do not lie one after another"):
        attach_latents(backbone, Accelerator(), clips(small_dataset))


def test_stored_maps_are_what_was_stored(tmp_path: Path) -> None:
    """Any frames in any order; a file that shrank after it was looked at is named."""
    values = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float16)
    np.save(tmp_path / "maps.npy", values)
    maps = StoredMaps(tmp_path / "maps.npy")
    for frames in ([0, 1, 2], [4, 0, 4], []):
        np.testing.assert_array_equal(maps[np.array(frames, int)], values[frames])
    with (tmp_path / "maps.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 2)
    np.testing.assert_array_equal(maps[np.array([3])], values[[3]])
    with pytest.raises(BadInput, match=r"maps\.npy ends before frame 4; remove it"):
        maps[np.array([4])]
