"""Image networks as backbones: grids, the start keypoint, and where weights come from."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from videopolicy.backbones.backbone import Backbone
from videopolicy.backbones.image import LEVELS, ImageBackbone, ImageConfig, lite0
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig

GRIDS = {  # name to (size, grid)
    "efficientnet_lite0": ((96, 64), (8, 12)),
    "dinov2_vits14": ((70, 42), (3, 5)),
    "dinov3_vits16": ((64, 48), (3, 4)),
}
VITS = ("dinov2_vits14", "dinov3_vits16")


def make(name: str) -> ImageBackbone:
    torch.manual_seed(0)
    weights = "pretrained" if name == "efficientnet_lite0" else "random"
    return ImageBackbone(ImageConfig(name, weights, GRIDS[name][0])).eval()


def images(size: tuple[int, int], n: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (n, size[1], size[0], 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_is_the_size_over_the_patch(name: str) -> None:
    backbone, (size, grid) = make(name), GRIDS[name]
    assert isinstance(backbone, Backbone)
    with torch.no_grad():
        features = backbone(images(size), torch.full((2, 2), torch.nan))
    assert features.dense.shape == (2, 1, backbone.feature_channels, *grid)
    assert backbone.grid == grid
    assert (features.token is not None) == (name in VITS)


@pytest.mark.parametrize("name", GRIDS)
def test_the_start_is_marked_where_it_is(name: str) -> None:
    """Features change at its cell, or, as tokens attend to one another, most there; not where it is outside."""
    backbone, (size, (rows, cols)) = make(name), GRIDS[name]
    backbone.start_embedding.data *= 50 if name in VITS else 1
    at = torch.tensor([[(2 + 0.5) * size[0] / cols, (1 + 0.5) * size[1] / rows], [torch.nan, torch.nan]])
    with torch.no_grad():
        marked, plain = (backbone(images(size), p).dense[:, 0] for p in (at, torch.full((2, 2), torch.nan)))
    change = (marked - plain).square().sum(1)
    assert change[0].flatten().argmax() == 1 * cols + 2
    assert (change[1] == 0).all()


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_is_told_what_the_start_looks_like(name: str) -> None:
    """The features read at the keypoint, as bilinearly as heads read them, stand beside those of each cell."""
    size, (rows, cols) = GRIDS[name]
    torch.manual_seed(0)
    weights = "pretrained" if name == "efficientnet_lite0" else "random"
    told = ImageBackbone(ImageConfig(name, weights, size, context="start")).eval()
    at = torch.tensor([[1.75 * size[0] / cols, 1.5 * size[1] / rows], [torch.nan, torch.nan]])
    with torch.no_grad():
        alone, whole = (b(images(size), at).dense[:, 0] for b in (make(name), told))
    assert whole.shape[1] == told.feature_channels == 2 * alone.shape[1]
    here, there = whole.chunk(2, 1)
    torch.testing.assert_close(here, alone)
    between = 0.75 * alone[0, :, 1, 1] + 0.25 * alone[0, :, 1, 2]
    torch.testing.assert_close(there[0], between[:, None, None].expand_as(there[0]))
    assert (there[1] == 0).all()


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_is_told_how_high_the_hand_is(name: str) -> None:
    """In all cells alike, beside what stands at the start keypoint; a millimetre tells heights apart."""
    size, _ = GRIDS[name]
    torch.manual_seed(0)
    weights = "pretrained" if name == "efficientnet_lite0" else "random"
    told = ImageBackbone(ImageConfig(name, weights, size, context="hand")).eval()
    at, height = torch.full((4, 2), 30.0), torch.tensor([0.05, 0.051, 0.15, 0.25])
    with torch.no_grad():
        whole = told(images(size, 1).expand(4, -1, -1, -1), at, height).dense[:, 0]
    assert whole.shape[1] == told.feature_channels
    seen, heights = whole.split([told.feature_channels - 8, 8], 1)
    torch.testing.assert_close(seen, seen[:1].expand_as(seen))
    assert (heights == heights[:, :, :1, :1]).all()
    apart = torch.cdist(heights[:, :, 0, 0], heights[:, :, 0, 0]) + 10 * torch.eye(4)
    assert apart.min() > 0.05
    assert apart[1:, 1:].min() > 1
    for unknown in (None, torch.full((4,), torch.nan)):
        with pytest.raises(BadInput, match=r"backbone\.context is hand, but the end effector's height is not known"):
            told(images(size, 1).expand(4, -1, -1, -1), at, unknown)


def test_folded_normalisation_is_the_same_function() -> None:
    """Features are timm's own, batch normalisation unfolded and in evaluation mode; training does not change that."""
    backbone = make("efficientnet_lite0").train()
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=LEVELS)
    named = lite0().state_dict()
    plain.load_state_dict({name: named[name] for name in plain.state_dict()})
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(backbone.net(x), plain.eval()(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_early_blocks_stay_imagenets() -> None:
    backbone = make("efficientnet_lite0")
    backbone(images((96, 64)), torch.full((2, 2), 30.0)).dense.square().mean().backward()
    trained = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("net.conv_stem", "net.blocks.0", "net.blocks.1")) for name in trained)
    assert {name for name, _ in backbone.named_parameters() if name.startswith("net.blocks.2")} < trained
    # Nothing is computed for nothing.
    assert trained == {name for name, p in backbone.named_parameters() if p.requires_grad}


def test_weights_from_a_file_or_a_folder(tmp_path: Path) -> None:
    """The same features as those they were taken from."""
    backbone = make("dinov3_vits16")
    save_file({k: v.contiguous() for k, v in backbone.net.state_dict().items()}, tmp_path / "model.safetensors")
    size = backbone.image_size
    for weights in (tmp_path, tmp_path / "model.safetensors"):
        other = ImageBackbone(ImageConfig("dinov3_vits16", str(weights), size)).eval()
        other.start_embedding.data.copy_(backbone.start_embedding.data)
        with torch.no_grad():
            a, b = (x(images(size), torch.full((2, 2), 20.0)).dense for x in (backbone, other))
        torch.testing.assert_close(a, b)
    torch.save(lite0().state_dict(), tmp_path / "lite0.pth")
    ours, theirs = (
        ImageBackbone(ImageConfig("efficientnet_lite0", w, (64, 64))) for w in ("pretrained", f"{tmp_path}/lite0.pth")
    )
    assert all(torch.equal(a, b) for a, b in zip(ours.net.parameters(), theirs.net.parameters(), strict=True))


def test_position_embeddings_are_resampled_to_the_picture(tmp_path: Path) -> None:
    """Of weights for 518 pixels, as timm's DINOv2 has them; all others stay as they are."""
    source = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
    side = 37
    centres = (torch.arange(side) + 0.5) / side
    ramps = torch.stack([centres[None].expand(side, side), centres[:, None].expand(side, side)], -1)
    source.pos_embed.data[0, 1:, :2] = ramps.flatten(0, 1)  # across the picture, and down it
    (tmp_path / "folder").mkdir()
    save_file(source.state_dict(), tmp_path / "folder/dinov2.safetensors")
    torch.save(source.state_dict(), tmp_path / "dinov2.pth")
    for weights, size in (("folder", (518, 518)), ("folder", (140, 112)), ("dinov2.pth", (70, 42))):
        net = ImageBackbone(ImageConfig("dinov2_vits14", str(tmp_path / weights), size)).net
        cols, rows = (x // 14 for x in size)
        assert net.pos_embed.shape == (1, 1 + rows * cols, source.embed_dim)
        torch.testing.assert_close(net.pos_embed[:, 0], source.pos_embed[:, 0])  # the class token has no place
        found = net.pos_embed[0, 1:, :2].detach().reshape(rows, cols, 2)
        across, down = ((torch.arange(n) + 0.5) / n for n in (cols, rows))
        torch.testing.assert_close(found[..., 0], across.expand(rows, cols), rtol=0, atol=0.02)
        torch.testing.assert_close(found[..., 1], down[:, None].expand(rows, cols), rtol=0, atol=0.02)
        if size == (518, 518):
            assert torch.equal(net.pos_embed, source.pos_embed)
        named = dict(source.named_parameters())
        assert all(torch.equal(p, named[k]) for k, p in net.named_parameters() if k != "pos_embed")


@pytest.mark.parametrize("name", VITS)
def test_weights_out_of_reach_name_three_ways(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    words = f"{name} cannot be fetched.*three ways: run once.*backbone.weights; or take.*efficientnet_lite0"
    with pytest.raises(BadInput, match=words):
        ImageBackbone(ImageConfig(name, image_size=(224, 224)))


def test_what_policies_predict_by_default() -> None:
    """Twelve waypoints, heights and openings in 32 bins each, labels at 448 pixels."""
    head, image = HeadConfig(), ImageConfig()
    assert (head.n_steps, head.para.n_height, head.para.n_gripper) == (12, 32, 32)
    assert image.image_size == (448, 448)
    assert (head.kind, image.name) == ("para", "efficientnet_lite0")


def test_bad_weights_and_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"backbone.weights is 'nowhere'; allowed: pretrained, random, a file"):
        ImageBackbone(ImageConfig("dinov3_vits16", "nowhere"))
    with pytest.raises(BadInput, match="holds 0 weight files; allowed: a folder with one"):
        ImageBackbone(ImageConfig("efficientnet_lite0", str(tmp_path)))
    (tmp_path / "model.pth").write_bytes(b"no weights")
    for name in ("dinov3_vits16", "efficientnet_lite0"):
        with pytest.raises(BadInput, match=f"backbone.weights {tmp_path} does not hold {name}"):
            ImageBackbone(ImageConfig(name, str(tmp_path)))
    with pytest.raises(BadInput, match=r"image_size is \(100, 96\); allowed: multiples of 16, dinov3_vits16's patch"):
        ImageBackbone(ImageConfig("dinov3_vits16", "random", (100, 96)))
