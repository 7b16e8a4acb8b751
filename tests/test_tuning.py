"""What of a UNet is trained, and that weights pass between the ways of training it."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import TOY
from flows import config
from torch import Tensor

from train_stages import export, joint, video
from train_stages.validation import Validation
from videopolicy import policy
from videopolicy.backbones import pipeline, tuning, unet
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.config import from_dict
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.errors import BadInput
from videopolicy.training.stage_one import load_stage_one, open_stage_one

SIZE = {"image_size": (64, 64), "n_frames": 4, "feature_blocks": (0, 1), "grid": 8}


def toy() -> Any:
    network = pipeline.create(TOY, seed=3).unet
    unet.shorten_cross_attention(network)
    return network


def output(network: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 16, 16, 16, generator=generator)
    given = x, torch.zeros(1), torch.randn(1, 1, 64, generator=generator), torch.zeros(1, 3)
    with torch.no_grad():
        return unet.run(network, *given).output


def trained(network: Any) -> set[str]:
    return {name for name, p in network.named_parameters() if p.requires_grad}


def with_updates(rank: int = 4) -> Any:
    """Low-rank updates that are not zero."""
    network = toy()
    tuning.choose(network, "lora", rank)
    torch.manual_seed(1)
    for name, p in network.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(p, std=0.1)
    return network


def test_what_is_trained() -> None:
    networks = {tune: toy() for tune in ("full", "temporal", "lora", "frozen")}
    for tune, network in networks.items():
        tuning.choose(network, tune, 4)
    full, temporal, lora, frozen = (trained(network) for network in networks.values())
    assert not frozen
    assert temporal < full
    assert any("temporal_res_block" in n for n in temporal)
    assert not any("spatial_res_block" in n or n.startswith("conv_") for n in temporal)
    assert lora
    assert all(".lora_A." in n or ".lora_B." in n for n in lora)
    assert not any("attn2.to_q" in n or "attn2.to_k" in n for n in lora | full)
    assert any("attn2.to_v" in n for n in lora)
    expected = output(networks["full"])
    assert all(torch.equal(output(network), expected) for network in networks.values())


def test_the_published_unets_temporal_weights() -> None:
    """656.1 M of its 1524.6 M."""
    with torch.device("meta"):
        network, _, _ = pipeline.published()
    n = sum(p.numel() for name, p in network.named_parameters() if any(word in name for word in tuning.TEMPORAL))
    assert n / 1e6 == pytest.approx(656.1, abs=0.1)


def test_updates_merge_into_plain_weights() -> None:
    network, plain = with_updates(), toy()
    before = output(plain)
    plain.load_state_dict(tuning.merged(network.state_dict()))
    torch.testing.assert_close(output(plain), output(network), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(output(plain), before, atol=1e-3)


def test_weights_fit_any_way_of_training() -> None:
    """Full to low-rank and back; what was updated before is in the base of what is updated now."""
    source = with_updates()
    expected = output(source)
    for network in (toy(), with_updates(2)):
        target = copy.deepcopy(network)
        tuning.choose(target, "temporal", 2)
        own = {k: v * (".lora_B." not in k) for k, v in target.state_dict().items()}
        target.load_state_dict(tuning.fitted(source.state_dict(), own))
        torch.testing.assert_close(output(target), expected, rtol=1e-4, atol=1e-5)


def test_only_what_is_to_be_trained_is(small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """Updates in stage one; in stage two a head, the video model frozen; exported, they are plain weights."""
    data = {"data__root": small_dataset, "backbone__n_frames": 4, "backbone__grid": 8, "data__n_val_episodes": 1}
    # In bf16 updates beside weights round otherwise than within them.
    data |= {"backbone__pretrained": pipeline_folder, "train__mixed_precision": "fp32"}
    one, two = tmp_path / "one", tmp_path / "two"
    video.main(config(video.Config, "video", run=one, backbone__tune="lora", backbone__lora_rank=2, **data))
    start = pipeline.load(pipeline_folder).unet.state_dict()
    stage_one = open_stage_one(one)
    changed = tuning.merged(stage_one.unet.state_dict())
    names = {name for name, value in changed.items() if not torch.equal(value, start[name])}
    assert names
    assert all(".attn" in name for name in names)

    joint.main(config(joint.Config, "joint_para", run=two, init_from=one, backbone__tune="frozen", **data))
    loaded, saved = policy.load(two)
    assert saved["backbone"]["tune"] == "frozen"
    for name, value in loaded.backbone.unet.state_dict().items():
        torch.testing.assert_close(value, changed[name], rtol=0, atol=0, msg=name)
    lines = [json.loads(line) for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert "lr/head" in lines[0]
    assert not {"lr/unet", "diffusion"} & set(lines[0])
    with pytest.raises(BadInput, match=r"future is 'hidden', but backbone.tune is 'full'; allowed for it: 'frozen'"):
        joint.main(config(joint.Config, "joint_para", run=two, init_from=one, future="hidden", **data))
    with pytest.raises(BadInput, match=r"backbone.tune +\"frozen\" +\"full\" +cannot change"):
        joint.main(config(joint.Config, "joint_para", run=two, init_from=one, backbone__tune="full", **data))

    # Updates on updates, averaged: what is loaded to act is what was validated.
    three = tmp_path / "three"
    more = {"backbone__tune": "lora", "train__ema": 0.5, "lr_unet": 0.1}
    last = joint.main(config(joint.Config, "joint_para", run=three, init_from=one, **more, **data))
    loaded, saved = policy.load(three)
    assert not any(p.requires_grad for p in loaded.backbone.unet.parameters())
    assert loaded.backbone.unet.state_dict().keys() == start.keys()
    opened, _, val_clips = open_splits(from_dict(DataConfig, saved["data"]), 4, 6, (64, 64))
    measured = Validation(loaded, opened, val_clips).measure()
    assert measured["position_mm"] == pytest.approx(last["position_mm"], rel=1e-3)
    away = [not torch.equal(v, changed[k]) for k, v in loaded.backbone.unet.state_dict().items()]
    assert any(away)
    assert not all(away)

    card = tmp_path / "card.md"
    card.write_text("# Toy\n")
    export.main(export.Config(run=one, card=card, output=tmp_path / "weights"))
    exported = pipeline.load(tmp_path / "weights").unet.state_dict()
    assert exported.keys() == start.keys()
    assert all(torch.equal(exported[k], v.half().float()) for k, v in changed.items())


def test_what_cannot_be_trained_is_refused(small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    keys = {"data__root": small_dataset, "backbone__pretrained": pipeline_folder, "backbone__n_frames": 4}
    cfg = config(video.Config, "video", run=tmp_path / "run", backbone__tune="frozen", **keys)
    with pytest.raises(BadInput, match="nothing would be trained: no parameter of unet is"):
        video.main(cfg)
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadInput, match="lora_rank is 0; allowed: at least 1"):
        SVDBackbone(SVDConfig(pipeline_folder, tune="lora", lora_rank=0, **SIZE), 4)


def test_another_architectures_weights_are_refused(small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    keys = {"data__root": small_dataset, "backbone__pretrained": pipeline_folder, "backbone__n_frames": 4}
    video.main(config(video.Config, "video", run=tmp_path / "run", train__n_steps=1, **keys))
    wide = pipeline.create(dataclasses.replace(TOY, channels=(32, 64)), seed=0).unet
    pipeline.save(dataclasses.replace(pipeline.load(pipeline_folder), unet=wide), tmp_path / "wide")
    for tune in ("full", "lora"):
        cfg = SVDConfig(tmp_path / "wide", tune=tune, **SIZE)
        with pytest.raises(BadInput, match=r"holds a checkpoint of another architecture: backbone.unet"):
            load_stage_one(tmp_path / "run", SVDBackbone(cfg, 4))
