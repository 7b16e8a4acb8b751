"""Cached latents are those of the frames, made once, and a cache that does not fit is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from videopolicy.backbones.svd import SVDBackbone, SVDConfig
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.diffusion import NoiseConfig
from videopolicy.errors import BadInput
from videopolicy.training.latents import attach_latents
from videopolicy.training.objectives import VideoObjective, draw


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
        torch.testing.assert_close(cached[i]["latents"], expected, rtol=2e-3, atol=2e-3)
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


def test_frames_are_encoded_once(backbone: SVDBackbone, small_dataset: Path) -> None:
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    files = sorted(small_dataset.glob("latents/*/*.npy"))
    assert [f.name for f in files] == [f"episode_{i:06d}.npy" for i in range(3)]
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
    assert len(list((small_dataset / "latents").iterdir())) == 2


def test_a_cache_that_does_not_fit_is_refused(backbone: SVDBackbone, small_dataset: Path) -> None:
    attach_latents(backbone, Accelerator(), clips(small_dataset))
    path = next(small_dataset.glob("latents/*/episode_000001.npy"))
    np.save(path, np.load(path)[:-1])
    with pytest.raises(BadInput, match="holds 3 frames, its episode 4; remove it"):
        attach_latents(backbone, Accelerator(), clips(small_dataset))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadInput, match=r"episode_000001.npy is damaged: .*; remove it"):
        attach_latents(backbone, Accelerator(), clips(small_dataset))
