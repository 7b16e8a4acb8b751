"""What a video model learns from an image network: the network's own worth, its components, and who is asked."""

import dataclasses
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from skimage import data as pictures

from train_stages import video
from videopolicy.backbones.backbone import FeatureMap, to_pixels
from videopolicy.backbones.image import SIZE, Lite0Features, lite0
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.config import load
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.diffusion import NoiseConfig
from videopolicy.errors import BadInput
from videopolicy.training.distill import DistillConfig, Readout, attach_teacher, principal_components
from videopolicy.training.objectives import VideoObjective, draw

CATS = range(281, 288)  # of ImageNet's classes


def cat() -> torch.Tensor:
    """A picture of a cat, in [-1, 1]."""
    pixels = to_pixels(torch.from_numpy(pictures.chelsea())[None])[..., :300]
    return torch.nn.functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)


@torch.no_grad()
def test_the_teacher_knows_a_cat() -> None:
    """Weights that were loaded in a wrong order, or pictures normalised otherwise, would not."""
    assert int(lite0()(cat()).argmax()) in CATS


@torch.no_grad()
def test_features_lie_where_the_picture_does() -> None:
    """Three levels on one grid; what is changed in one corner changes features there most."""
    teacher, picture = Lite0Features(), cat()
    other = picture.clone()
    other[..., :56, :56] = 0.0
    before, after = teacher(picture, 8), teacher(other, 8)
    assert before.shape == (1, Lite0Features.channels, 8, 8)
    change = (after - before)[0, :40].abs().mean(0)  # the finest level
    assert change[:2, :2].min() > 5 * change[4:, 4:].max()


@torch.no_grad()
def test_components_are_principal(small_dataset: Path) -> None:
    """Uncorrelated, in falling order, of mean variance 1, and blind to a channel's unit."""
    clips = ClipDataset(Dataset(small_dataset), [0, 1, 2], 4, 3, (64, 64), 1.0)
    teacher = Lite0Features()
    mean, matrix = principal_components(teacher, clips, 8, 6)
    frames = torch.stack([clips[i]["frames"][0] for i in range(len(clips))])
    rows = (teacher(to_pixels(frames), 8) - mean[:, None, None]).movedim(1, -1).flatten(0, -2) @ matrix.T
    covariance = rows.T.cov()
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=2e-2, rtol=0.0)
    assert (covariance.diagonal().diff() < 1e-3).all()
    assert float(covariance.diagonal().mean()) == pytest.approx(1.0, abs=0.05)


def test_readings_are_linear_and_masked() -> None:
    """Features that hold the teacher's, now and then, can be read without error; what is not kept does not count."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 4, 5, 6, 6, generator=generator)
    dense = torch.cat([teacher[:, :1].expand(-1, 3, -1, -1, -1), teacher[:, 1:]], 2)
    readout = Readout(10, 5)
    with torch.no_grad():
        for conv, first in ((readout.now, 0), (readout.then, 5)):
            conv.bias.zero_()
            conv.weight.zero_()
            conv.weight[:, first : first + 5, 0, 0] = torch.eye(5)
    keep = torch.tensor([True, True, False])
    assert float(readout.error(FeatureMap(dense), teacher, keep).detach()) < 1e-10
    spoilt = teacher.clone()
    spoilt[2] += 100
    assert float(readout.error(FeatureMap(dense), spoilt, keep).detach()) < 1e-10
    spoilt[1] += 1
    assert float(readout.error(FeatureMap(dense), spoilt, keep).detach()) == pytest.approx(0.5)
    assert float(readout.error(FeatureMap(dense), spoilt, torch.zeros(3, dtype=torch.bool)).detach()) == 0


def test_only_noisy_conditioned_samples_are_asked(pipeline_folder: Path) -> None:
    """Elsewhere the future, or nothing at all, stands in the latents."""
    torch.manual_seed(0)
    cfg = SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8)
    backbone = SVDBackbone(cfg, 4)
    objective = VideoObjective(backbone, Readout(backbone.feature_channels, 5), 2.0)
    batch = {
        "frames": torch.randint(0, 255, (2, 4, 64, 64, 3)).byte(),
        "start_pixel": torch.zeros(2, 2),
        "teacher": torch.randn(2, 4, 5, 8, 8),
    }
    draws = draw(NoiseConfig(), range(2), backbone, 0, 0)
    losses = {}
    for name, sigma, dropout in (("asked", 200.0, 1.0), ("clean", 2.0, 1.0), ("unconditioned", 200.0, 0.15)):
        with torch.no_grad():
            chosen = dataclasses.replace(draws, sigma=torch.full((2,), sigma), dropout=torch.full((2,), dropout))
            losses[name] = objective(batch, chosen)
    assert float(losses["clean"]["distill"]) == float(losses["unconditioned"]["distill"]) == 0
    asked = losses["asked"]
    assert float(asked["distill"]) > 0.1
    torch.testing.assert_close(asked["total"], asked["diffusion"] + 2 * asked["distill"])


def test_another_choice_of_clips_has_another_basis(small_dataset: Path) -> None:
    digests = [
        attach_teacher(
            DistillConfig(0.3, 8), 4, Accelerator(), ClipDataset(Dataset(small_dataset), e, 4, 3, (64, 64), 1.0)
        )
        for e in ([0, 1, 2], [0, 1], [0, 1, 2])
    ]
    assert digests[0] == digests[2] != digests[1]
    assert len(list((small_dataset / "teacher").glob("basis_*.npz"))) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--distill.weight", "-1"], r"distill\.weight is -1\.0; allowed: 0 to 100"),
        (["--distill.n_components", "473"], r"distill\.n_components is 473; allowed: 1 to 472"),
        (
            ["--distill.weight", "1", "--noise.high_share", "0"],
            r"no sample would train the readout",
        ),
    ],
)
def test_bad_values_are_named(args: list[str], words: str, small_dataset: Path, pipeline_folder: Path) -> None:
    here = ["--data.root", str(small_dataset), "--data.n_val_episodes", "1", "--dry_run", "true"]
    here += ["--backbone.pretrained", str(pipeline_folder), "--backbone.image_size", "[64, 64]"]
    here += ["--backbone.n_frames", "4", "--backbone.feature_blocks", "[0]"]
    with pytest.raises(BadInput, match=words):
        video.main(load(video.Config, [*here, *args]))
