"""Weights folders: plain diffusers loads what we write, and a damaged folder is one clear line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import builders
import pytest
import torch
from damage import edit_json
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from einops import rearrange
from PIL import Image
from torch import Tensor

from train_stages.export import card
from videopolicy.backbones import checksums, pipeline
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.diffusion import karras_sigmas, sample
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent


@pytest.fixture
def carded(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy of the toy folder with a card that holds its checksums, to be damaged."""
    folder = tmp_path / "carded"
    shutil.copytree(pipeline_folder, folder)
    (folder / checksums.CARD).write_text(card("# A toy", folder))
    return folder


def test_plain_diffusers_samples_what_ours_samples(pipeline_folder: Path) -> None:
    """From the same noise, without guidance or augmentation: the same latents after every step, and the same clip."""
    theirs = StableVideoDiffusionPipeline.from_pretrained(pipeline_folder)
    theirs.set_progress_bar_config(disable=True)
    steps: list[Tensor] = []

    def keep(_pipeline: object, _step: int, _time: object, given: dict) -> dict:
        steps.append(given["latents"])
        return given

    ours = SVDBackbone(SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8), 4)
    ours.eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.from_numpy(builders.episode(0, 1).frames[0])
    noise = torch.randn(1, *ours.feature_noise.shape, generator=generator)
    expected = theirs(
        Image.fromarray(image.numpy()),
        height=64,
        width=64,
        num_inference_steps=5,
        max_guidance_scale=1.0,
        fps=4,
        noise_aug_strength=0.0,
        latents=noise,
        output_type="pt",
        callback_on_step_end=keep,
    ).frames[0]
    with torch.no_grad():
        first = ours.pixels(image[None])
        condition = ours.condition(first, torch.zeros(1), torch.zeros_like(first))
        embedding = theirs._encode_image(Image.fromarray(image.numpy()), torch.device("cpu"), 1, False)[:, 0]
        # Their antialiasing is another filter than ours.
        torch.testing.assert_close(condition["embedding"][:, 0], embedding, rtol=0, atol=0.05)
        condition = ours.condition(first, torch.zeros(1), torch.zeros_like(first), embedding=embedding)
        inputs: list[Tensor] = []
        latents = sample(lambda x, s: inputs.append(x) or ours.denoise(x, s, condition), noise, 5)
        clip = ours.decode(latents)[0]
    for one, other in zip([*inputs[1:], latents], steps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(clip.clamp(-1, 1) / 2 + 0.5, expected, rtol=0, atol=2e-3)


def test_its_scheduler_has_our_noise_levels(pipeline_folder: Path) -> None:
    scheduler = EulerDiscreteScheduler.from_pretrained(pipeline_folder, subfolder="scheduler")
    scheduler.set_timesteps(7)
    torch.testing.assert_close(scheduler.sigmas, karras_sigmas(7), rtol=1e-4, atol=1e-4)


def test_loading_gives_back_what_was_saved(tmp_path: Path, pipeline_folder: Path) -> None:
    """UNet and VAE to half precision, the image encoder exactly; loading and saving again changes nothing."""
    parts = pipeline.load(pipeline_folder)
    assert all(p.dtype == torch.float32 for m in (parts.unet, parts.vae, parts.image_encoder) for p in m.parameters())
    pipeline.save(parts, tmp_path / "again")
    again = pipeline.load(tmp_path / "again")
    assert again.identity == parts.identity
    for ours, theirs in ((parts.unet, again.unet), (parts.vae, again.vae), (parts.image_encoder, again.image_encoder)):
        assert all(
            torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
    assert parts.purpose == {"image_size": [64, 64], "n_frames": 4, "fps": 4}


def test_a_whole_folder_passes_its_card(carded: Path) -> None:
    assert checksums.damage(carded) is None
    assert (carded / checksums.CARD).read_text().count("safetensors\n") >= 3
    pipeline.load(carded)


@pytest.mark.parametrize("name", ["unet/config.json", "videopolicy.json", "scheduler/scheduler_config.json"])
def test_missing_and_altered_files_are_named(carded: Path, name: str) -> None:
    text = (carded / name).read_text()
    (carded / name).write_text(text + " ")
    with pytest.raises(BadInput, match=f"{name} was altered"):
        pipeline.load(carded)
    (carded / name).unlink()
    with pytest.raises(BadInput, match=f"{name} is missing"):
        pipeline.load(carded)
    (carded / name).write_text(text)
    pipeline.load(carded)


def test_one_flipped_bit_in_the_weights_is_noticed(carded: Path) -> None:
    path = next((carded / "unet").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BadInput, match=rf"unet/{path.name} was altered"):
        pipeline.load(carded)


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "scheduler"])
def test_without_a_card_a_missing_part_is_still_one_line(pipeline_folder: Path, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "published"
    shutil.copytree(pipeline_folder, folder)
    shutil.rmtree(folder / part)
    with pytest.raises(BadInput, match="cannot load the video model in") as caught:
        pipeline.load(folder)
    assert "\n" not in str(caught.value)


def test_a_repository_of_the_hub_is_found_in_its_cache(pipeline_folder: Path, tmp_path: Path) -> None:
    """Without a connection, where it was fetched before; as the hub's client keeps it."""
    repository = tmp_path / "hub/models--someone--video"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0123abc")
    shutil.copytree(pipeline_folder, repository / "snapshots/0123abc")
    code = (
        "from pathlib import Path; from videopolicy.backbones.pipeline import find; print(find(Path('someone/video')))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert Path(result.stdout.strip()) == repository / "snapshots/0123abc"


def test_a_repository_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its licence page and both ways to get it, in one line."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        pipeline.find(Path("stabilityai/stable-video-diffusion-img2vid"))
    for words in (
        "accept its licence at https://huggingface.co/stabilityai/stable-video-diffusion-img2vid",
        "log in with `hf auth login`",
        "hf download stabilityai/stable-video-diffusion-img2vid --local-dir stable-video-diffusion-img2vid",
    ):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_precision_files_alone(pipeline_folder: Path, tmp_path: Path) -> None:
    """As the published repository also holds them: the same networks, in full precision."""
    whole = StableVideoDiffusionPipeline.from_pretrained(pipeline_folder)
    whole.save_pretrained(tmp_path / "half", variant="fp16")
    ours, theirs = pipeline.load(pipeline_folder), pipeline.load(tmp_path / "half", variant="fp16")
    assert theirs.identity == ours.identity
    assert theirs.start == ours.start
    assert next(theirs.unet.parameters()).dtype == torch.float32
    with pytest.raises(BadInput, match=r"cannot load the video model in .*backbone.variant is fp16"):
        pipeline.load(tmp_path / "half")


def test_pickled_weights_are_never_read(pipeline_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pipeline_folder, tmp_path / "pickled")
    for file in (tmp_path / "pickled/unet").glob("*.safetensors*"):
        file.unlink()
    torch.save(pipeline.load(pipeline_folder).unet.state_dict(), tmp_path / "pickled/unet/diffusion_pytorch_model.bin")
    with pytest.raises(BadInput, match="cannot load the video model"):
        pipeline.load(tmp_path / "pickled")


def test_without_a_folder_the_published_sizes_are_random() -> None:
    with torch.device("meta"):
        parts = pipeline.load(None, "random")
    assert sum(p.numel() for p in parts.unet.parameters()) == pytest.approx(1524.6e6, rel=1e-4)
    assert (parts.purpose, parts.start, parts.identity) == (None, "random", "random")
    with pytest.raises(BadInput, match=r"weights is 'pretrained'; allowed with .* null: 'random'"):
        pipeline.load(None)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadInput, match=r"holds no video model: model_index\.json is missing"):
            pipeline.load(folder)


@pytest.mark.parametrize(
    ("name", "value"), [("prediction_type", "epsilon"), ("timestep_type", "discrete"), ("sigma_max", 80.0)]
)
def test_a_network_of_other_noise_is_refused(pipeline_folder: Path, tmp_path: Path, name: str, value: object) -> None:
    """Its scheduler says what its UNet predicts, and of what."""
    folder = tmp_path / "other"
    shutil.copytree(pipeline_folder, folder)
    edit_json(folder / "scheduler/scheduler_config.json", **{name: value})
    with pytest.raises(BadInput, match=rf"the scheduler of .*other has {name} {value!r}; allowed: .*, as SVD's own"):
        pipeline.load(folder)


def test_truncated_weights_without_a_card_are_refused(pipeline_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    shutil.copytree(pipeline_folder, folder)
    path = next((folder / "vae").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cannot load the video model"):
        pipeline.load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": (32, 40)}, r"channels are \(32, 40\)"),
        ({"attention": (True,)}, "attention has 1 entries"),
        ({"image_size": (64, 60)}, r"image_size is \(64, 60\); allowed: multiples of 8"),
        ({"n_frames": 1}, "n_frames is 1"),
    ],
)
def test_impossible_architectures_are_refused(change: dict, words: str) -> None:
    toy = {"image_size": (64, 64), "channels": (32, 32), "attention": (False, True)}
    with pytest.raises(BadInput, match=words):
        pipeline.Architecture(**{**toy, **change})


def test_frames_of_a_clip_stay_together_in_the_decoder(pipeline_folder: Path) -> None:
    """The temporal decoder sees one clip at a time: another clip in the batch changes nothing."""
    vae = pipeline.load(pipeline_folder).vae
    z = torch.randn(8, vae.config.latent_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = vae.decode(z, num_frames=4).sample
        one = vae.decode(rearrange(z, "(b t) c h w -> b t c h w", b=2)[0], num_frames=4).sample
    torch.testing.assert_close(both[:4], one, rtol=1e-4, atol=1e-4)
    assert (
        json.loads((pipeline_folder / "model_index.json").read_text())["_class_name"] == "StableVideoDiffusionPipeline"
    )
