"""The video backbone at toy size: conditioning, codec, features, and acting."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from videopolicy.backbones.codec import PatchCodec
from videopolicy.backbones.svd import MOTION_BUCKET, SVDBackbone, SVDConfig
from videopolicy.errors import BadInput

SMALL = SVDConfig(
    image_size=(64, 64),
    n_frames=4,
    channels=(32, 32),
    attention=(False, True),
    codec_channels=8,
    feature_blocks=(0, 1),
    grid=8,
)


def images(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 64, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def backbone() -> SVDBackbone:
    torch.manual_seed(0)
    backbone = SVDBackbone(SMALL, fps=4).eval()
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
        torch.testing.assert_close(out["latent"][i], backbone.codec.encode(noisy)[0])
    kept = backbone.condition(first, strength, noise, torch.tensor([1.0, 0, 1]), torch.tensor([1.0, 1, 0]))
    assert [x.any().item() for x in kept["latent"]] == [True, False, True]
    assert [x.any().item() for x in kept["embedding"]] == [True, True, False]
    torch.testing.assert_close(kept["latent"][0], out["latent"][0])


def test_codec_with_all_channels_loses_nothing() -> None:
    """Fitted with every component, decoding inverts encoding, and latents have unit variance."""
    codec, frames = PatchCodec(4, 48), images(2)
    assert codec.fit(frames) < 1e-8
    pixels = frames.permute(0, 3, 1, 2) / 127.5 - 1
    latents = codec.encode(pixels)
    assert latents.shape == (2, 48, 16, 16)
    torch.testing.assert_close(codec.decode(latents), pixels, rtol=1e-4, atol=1e-4)
    assert latents.square().mean().item() == pytest.approx(1, abs=1e-3)


def test_codec_reports_what_it_loses() -> None:
    """Fewer channels cost more, and the returned error is the measured one."""
    errors = [PatchCodec(4, n).fit(images(2)) for n in (4, 12, 24)]
    assert errors[0] > errors[1] > errors[2] > 0.01


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
    dense = backbone.forward(images(2), torch.full((2, 2), 32.0)).dense
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
    embedding, backbone.start_embedding.data = backbone.start_embedding.data, torch.zeros(32)
    silent = backbone.forward(images(1), one).dense
    backbone.start_embedding.data = embedding
    torch.testing.assert_close(silent, maps[2])


@pytest.mark.parametrize(("blocks", "channels"), [((0,), 32), ((1,), 32), ((0, 1), 64)])
@torch.no_grad()
def test_feature_shapes(blocks: tuple[int, ...], channels: int) -> None:
    """Three future frames of four, the chosen blocks' channels, the head's grid."""
    backbone = SVDBackbone(dataclasses.replace(SMALL, feature_blocks=blocks, grid=6), fps=4)
    out = backbone.forward(images(2), torch.full((2, 2), 32.0))
    assert out.dense.shape == (2, backbone.n_feature_frames, backbone.feature_channels, 6, 6) == (2, 3, channels, 6, 6)
    assert out.pooled.shape == (2, 3 * channels)
    torch.testing.assert_close(out.pooled[1, channels : 2 * channels], out.dense[1, 1].mean((-2, -1)))


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
        ({"image_size": (64, 60)}, r"image_size is \(64, 60\); allowed: multiples of 16"),
        ({"channels": (32, 40)}, r"channels is \(32, 40\); allowed: multiples of 32"),
        ({"attention": (True,)}, "attention has 1 entries"),
        ({"n_frames": 1}, "n_frames is 1"),
        ({"codec_channels": 193}, "at most 192"),
    ],
)
def test_impossible_sizes_are_refused(change: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        SVDBackbone(dataclasses.replace(SMALL, **change), fps=4)
