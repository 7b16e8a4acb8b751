"""The video backbone at toy size: conditioning, latents, features, and acting."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from videopolicy.backbones import pipeline, unet
from videopolicy.backbones.lowered import keep_low
from videopolicy.backbones.svd import MOTION_BUCKET, SVDBackbone, SVDConfig
from videopolicy.errors import BadInput

SMALL = SVDConfig(image_size=(64, 64), n_frames=4, feature_blocks=(0, 1), grid=8)


def images(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 64, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def small(pipeline_folder: Path) -> SVDConfig:
    return dataclasses.replace(SMALL, pretrained=pipeline_folder)


@pytest.fixture(scope="module")
def backbone(small: SVDConfig) -> SVDBackbone:
    torch.manual_seed(0)
    backbone = SVDBackbone(small, fps=4).eval()
    torch.nn.init.normal_(backbone.start_embedding)
    return backbone


def test_conditioning_is_per_sample(backbone: SVDBackbone) -> None:
    """Each sample's own noise strength reaches its time ids and its latent; fps is one less; dropping is per sample."""
    first, noise = backbone.pixels(images(3)), torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.0, 0.02, 0.5])
    out = backbone.condition(first, strength, noise)
    torch.testing.assert_close(out["time_ids"][:, 2], strength)
    assert out["time_ids"][:, :2].tolist() == [[3.0, MOTION_BUCKET]] * 3  # four frames per second
    for i in range(3):
        noisy = first[i : i + 1] + strength[i] * noise[i]
        torch.testing.assert_close(out["latent"][i], backbone.encode_images(noisy)[0], rtol=1e-3, atol=1e-3)
    kept = backbone.condition(first, strength, noise, torch.tensor([1.0, 0, 1]), torch.tensor([1.0, 1, 0]))
    assert [x.any().item() for x in kept["latent"]] == [True, False, True]
    assert [x.any().item() for x in kept["embedding"]] == [True, True, False]
    torch.testing.assert_close(kept["latent"][0], out["latent"][0])


def test_latents_are_scaled_and_conditions_are_not(backbone: SVDBackbone) -> None:
    """SVD's convention: targets have unit variance through the VAE's factor, the conditioning latent is raw."""
    backbone.vae.register_to_config(scaling_factor=0.5)
    pixels = backbone.pixels(images(2))[:, None]
    raw = backbone.encode_images(pixels[:, 0])
    torch.testing.assert_close(backbone.encode(pixels)[:, 0], 0.5 * raw)
    condition = backbone.condition(pixels[:, 0], torch.zeros(2), torch.zeros_like(pixels[:, 0]))
    torch.testing.assert_close(condition["latent"], raw)
    decoded = backbone.decode(backbone.encode(pixels))
    backbone.vae.register_to_config(scaling_factor=1.0)
    torch.testing.assert_close(decoded, backbone.decode(backbone.encode(pixels)), rtol=1e-3, atol=1e-3)


def test_the_vae_encodes_in_full_precision(backbone: SVDBackbone) -> None:
    """Whatever surrounds it; in half precision the published one gives black pictures. The UNet does not."""
    pixels, start = backbone.pixels(images(2)), torch.full((2, 2), torch.nan)
    with torch.autocast("cpu", torch.bfloat16):
        lowered, features = backbone.posterior(pixels), backbone.forward(images(2), start).dense
    assert torch.equal(lowered, backbone.posterior(pixels))
    assert not torch.equal(features, backbone.forward(images(2), start).dense)


def test_weights_kept_low_are_what_autocast_makes_of_them(small: SVDConfig) -> None:
    """Outputs to the last bit; normalisations and what runs in full precision stay as they are."""
    backbone = SVDBackbone(small, fps=4).eval()
    found = []
    for lower in (False, True):
        if lower:
            keep_low(backbone.unet)
            keep_low(backbone.image_encoder)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found.append(backbone.forward(images(2), torch.full((2, 2), 30.0)).dense)
    assert torch.equal(*found)
    kinds = {p.dtype for name, p in backbone.unet.named_parameters() if "norm" in name}
    assert kinds == {p.dtype for p in backbone.vae.parameters()} == {torch.float32}
    low = sum(p.numel() for p in backbone.unet.parameters() if p.dtype == torch.bfloat16)
    assert low > 0.95 * sum(p.numel() for p in backbone.unet.parameters())


def test_acting_decodes_no_picture(backbone: SVDBackbone) -> None:
    """Nor runs the UNet's last blocks, which nothing reads; one picture is encoded."""
    ran: list[str] = []
    parts = {"decoder": backbone.vae.decoder, "encoder": backbone.vae.encoder, "end": backbone.unet.conv_out}
    hooks = [part.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, part in parts.items()]
    backbone.forward(images(1), torch.full((1, 2), 30.0))
    for hook in hooks:
        hook.remove()
    assert ran == ["encoder"]


def test_a_head_reads_1920_channels_of_the_published_model() -> None:
    """Up-blocks 1 and 2, each frame on 64 x 64; of 512 x 512 pictures blocks 2 and 3 are so large by themselves."""
    cfg = SVDConfig()
    assert (cfg.feature_blocks, cfg.grid) == ((1, 2), 64)
    with torch.device("meta"):
        published, _, _ = pipeline.published()
    for blocks, size, shapes in (
        (cfg.feature_blocks, (40, 72), [(1280, 20, 36), (640, 40, 72)]),
        ((2, 3), (64, 64), [(640, 64, 64), (320, 64, 64)]),
    ):
        with torch.no_grad(), torch.device("meta"):
            x = torch.zeros(1, 7, 8, *size)
            given = x, torch.zeros(1), torch.zeros(1, 1, 1024), torch.zeros(1, 3)
            read = unet.run(published, *given, read=blocks, whole=False).blocks
        assert [tuple(read[i].shape[1:]) for i in blocks] == shapes
        widths = published.config.block_out_channels[::-1]
        assert sum(widths[i] for i in blocks) == sum(channels for channels, *_ in shapes)


def test_training_leaves_vae_and_image_encoder_alone(backbone: SVDBackbone) -> None:
    backbone.train()
    assert backbone.unet.training
    assert not backbone.vae.training
    assert not backbone.image_encoder.training
    frozen = [*backbone.vae.parameters(), *backbone.image_encoder.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert {id(p) for p in frozen}.isdisjoint(id(p) for p in backbone.unet_parameters())
    backbone.eval()


def test_random_weights_keep_the_rest(small: SVDConfig, backbone: SVDBackbone) -> None:
    """The from-scratch comparison: another UNet of the same shapes, the very same VAE and image encoder."""
    scratch = SVDBackbone(dataclasses.replace(small, weights="random"), fps=4)
    ours, theirs = (m.unet.state_dict() for m in (backbone, scratch))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert not torch.equal(ours["conv_in.weight"], theirs["conv_in.weight"])
    assert scratch.identity == backbone.identity
    assert all(torch.equal(a, b) for a, b in zip(backbone.vae.parameters(), scratch.vae.parameters(), strict=True))


def test_a_narrow_unet_cannot_start_by_copying(small: SVDConfig) -> None:
    words = r"weights is 'copying', but the UNet of .* has 32 channels at .*; allowed: 'copying' with 96 and .*'random'"
    with pytest.raises(BadInput, match=words):
        SVDBackbone(dataclasses.replace(small, weights="copying"), fps=4)


@torch.no_grad()
def test_acting_is_deterministic_and_samples_do_not_mix(backbone: SVDBackbone) -> None:
    """The same image gives the same features, alone or in a batch, whatever ran before."""
    start = torch.tensor([[20.0, 30.0], [50.0, 9.0], [float("nan")] * 2])
    together = backbone.forward(images(3), start).dense
    torch.manual_seed(99)
    assert torch.equal(backbone.forward(images(3), start).dense, together)
    for i in range(3):
        alone = backbone.forward(images(3)[i : i + 1], start[i : i + 1]).dense[0]
        torch.testing.assert_close(alone, together[i], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


@torch.no_grad()
def test_features_are_those_of_the_future_frames(backbone: SVDBackbone) -> None:
    """Frame 0 is the image itself and is not read; the others keep their order, blocks side by side."""
    seen: dict[int, Tensor] = {}
    hooks = [
        backbone.unet.up_blocks[i].register_forward_hook(lambda _m, _x, out, i=i: seen.update({i: out}))
        for i in SMALL.feature_blocks
    ]
    dense = backbone.forward(images(2), torch.full((2, 2), torch.nan)).dense
    for hook in hooks:
        hook.remove()
    for i in SMALL.feature_blocks:
        block = F.interpolate(seen[i], (8, 8), mode="bilinear", align_corners=False)
        block = block.reshape(2, SMALL.n_frames, 32, 8, 8)
        torch.testing.assert_close(dense[:, :, 32 * i : 32 * (i + 1)], block[:, 1:])


@torch.no_grad()
def test_features_know_the_start_pixel(backbone: SVDBackbone) -> None:
    """Moving the end effector changes the features; outside the image there is no embedding at all."""
    one, other, nowhere = (torch.full((1, 2), x) for x in (10.0, 40.0, float("nan")))
    maps = [backbone.forward(images(1), pixel).dense for pixel in (one, other, nowhere)]
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(maps, maps[1:] + maps[:1], strict=True))
    embedding, backbone.start_embedding.data = backbone.start_embedding.data, torch.zeros(backbone.feature_channels)
    silent = backbone.forward(images(1), one).dense
    backbone.start_embedding.data = embedding
    torch.testing.assert_close(silent, maps[2])


@pytest.mark.parametrize(("blocks", "channels"), [((0,), 32), ((1,), 32), ((0, 1), 64)])
@torch.no_grad()
def test_feature_shapes(small: SVDConfig, blocks: tuple[int, ...], channels: int) -> None:
    """Three future frames of four, the chosen blocks' channels, the head's grid."""
    backbone = SVDBackbone(dataclasses.replace(small, feature_blocks=blocks, grid=6), fps=4)
    out = backbone.forward(images(2), torch.full((2, 2), 32.0))
    assert out.dense.shape == (2, backbone.n_feature_frames, backbone.feature_channels, 6, 6) == (2, 3, channels, 6, 6)
    assert out.pooled.shape == (2, 3 * channels)
    torch.testing.assert_close(out.pooled[1, channels : 2 * channels], out.dense[1, 1].mean((-2, -1)))


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_checkpointing_changes_no_gradient(small: SVDConfig, checkpointing: str) -> None:
    """Of v and of the features, which come of the same pass."""
    found = []
    for how in ("none", checkpointing):
        torch.manual_seed(0)
        backbone = SVDBackbone(dataclasses.replace(small, checkpointing=how), fps=4)
        x = torch.randn(2, *backbone.feature_noise.shape, generator=torch.Generator().manual_seed(2))
        condition = backbone.condition(backbone.pixels(images(2)), torch.zeros(2), torch.zeros(2, 3, 64, 64))
        v, blocks = backbone.denoise_and_read(x, torch.tensor([90.0, 0.5]), condition)
        features = backbone.features(blocks, torch.full((2, 2), 30.0)).dense
        (v.square().mean() + features.square().mean()).backward()
        found.append([p.grad for p in (*backbone.unet_parameters(), backbone.start_embedding)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_generated_clips_are_images(backbone: SVDBackbone) -> None:
    clips = backbone.generate(images(2), n_steps=2, seed=0)
    assert clips.shape == (2, 4, 64, 64, 3)
    assert torch.equal(clips, backbone.generate(images(2), n_steps=2, seed=0))
    assert not torch.equal(clips, backbone.generate(images(2), n_steps=2, seed=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"feature_blocks": (0, 2)}, r"feature_blocks is \(0, 2\); allowed: 0 to 1"),
        ({"feature_blocks": ()}, "feature_blocks"),
        ({"feature_blocks": (1, 1)}, r"feature_blocks is \(1, 1\); allowed: 0 to 1, each at most once"),
        ({"image_size": (128, 64)}, r"image_size is \(128, 64\), but .*toy was made for \[64, 64\]"),
        ({"n_frames": 7}, "n_frames is 7, but .*toy was made for 4"),
        ({"feature_sigma": 800.0}, "feature_sigma is 800"),
        ({"grid": 1}, "grid is 1; allowed: 2 to 64, the picture's smaller side"),
        ({"grid": 65}, "grid is 65; allowed: 2 to 64"),
    ],
)
def test_impossible_configurations_are_refused(small: SVDConfig, change: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        SVDBackbone(dataclasses.replace(small, **change), fps=4)


def test_a_model_for_any_size_needs_only_its_multiples(pipeline_folder: Path, tmp_path: Path) -> None:
    """Published weights say nothing of sizes: then the networks' own downsampling decides."""
    folder = tmp_path / "published"
    shutil.copytree(pipeline_folder, folder)
    (folder / "videopolicy.json").unlink()
    cfg = dataclasses.replace(SMALL, pretrained=folder, image_size=(96, 64), n_frames=3)
    out = SVDBackbone(cfg, fps=4)(images(1)[:, :, :32].repeat(1, 1, 3, 1), torch.full((1, 2), 9.0))
    assert out.dense.shape == (1, 2, 64, 8, 8)
    for size in ((100, 64), (64, 0), (-64, 64)):
        with pytest.raises(BadInput, match=rf"image_size is {re.escape(str(size))}; allowed: multiples of 8"):
            SVDBackbone(dataclasses.replace(cfg, image_size=size), fps=4)
    with pytest.raises(BadInput, match="n_frames is 1"):
        SVDBackbone(dataclasses.replace(cfg, n_frames=1), fps=4)


def test_kernels_of_attention(small: SVDConfig, backbone: SVDBackbone) -> None:
    """torch's own by default; xformers needs a GPU, and says what is missing."""
    processors = {type(p).__name__ for p in backbone.unet.attn_processors.values()}
    assert processors == {"AttnProcessor2_0", "OneToken"}
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match=r"attention is xformers, which cannot be used: .+; allowed: auto, sdpa"):
            SVDBackbone(dataclasses.replace(small, attention="xformers"), fps=4)


def test_images_of_another_size_are_refused(backbone: SVDBackbone) -> None:
    with pytest.raises(BadInput, match=r"images are 32x64; allowed: \(64, 64\)"):
        backbone.pixels(images(1)[:, :, :32])
