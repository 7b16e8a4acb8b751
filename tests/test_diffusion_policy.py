"""Diffusion Policy: of two ways of doing things it says one; its noise, its samples; it trains as every head does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flows import config
from small_heads import LABELS, SMALL, Shape, targets
from torch import Tensor, nn

from train_stages import joint, light
from videopolicy import policy
from videopolicy.backbones.backbone import FeatureMap
from videopolicy.backbones.image import ImageBackbone, ImageConfig
from videopolicy.camera import Camera
from videopolicy.data.augment import AugmentDraws
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig, make_head
from videopolicy.heads.diffusion import DiffusionConfig, DiffusionHead, held
from videopolicy.heads.head import Targets
from videopolicy.heads.temporal_unet import TemporalUnet
from videopolicy.training.head_objective import HeadObjective

LOW, HIGH = np.array(LABELS["position_low"]), np.array(LABELS["position_high"])
KEYS = {"down_dims": "[8, 16]", "step_embed_dim": 8, "n_keypoints": 4, "n_features": 8, "n_eval_iterations": 4}
SMALLER = {"head__kind": "diffusion", **{f"head__diffusion__{name}": value for name, value in KEYS.items()}}


def head_of(kind: str, n_steps: int = 6, **options: object) -> nn.Module:
    """On a single, small map."""
    torch.manual_seed(0)
    cfg = replace(SMALL, kind=kind, n_steps=n_steps, diffusion=replace(SMALL.diffusion, **options))
    return make_head(cfg, Shape(n_feature_frames=1), LABELS, 4).eval()


def diffusion(n_steps: int = 6, **options: object) -> DiffusionHead:
    head = head_of("diffusion", n_steps, **options)
    assert isinstance(head, DiffusionHead)
    return head


def maps(n: int) -> FeatureMap:
    return FeatureMap(torch.randn(n, 1, 16, 4, 4, generator=torch.Generator().manual_seed(0)))


def trained(head: nn.Module, seen: FeatureMap, labels: Targets, n: int) -> list[float]:
    """The losses of `n` steps of training on one batch."""
    found, optimizer = [], torch.optim.AdamW(head.parameters(), 1e-2)
    head.train()
    for _ in range(n):
        loss = torch.stack(list(head.loss(head(seen), labels).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    head.eval()
    return found


def test_it_does_one_thing_or_the_other(camera: Camera) -> None:
    """Shown a picture with two ways to go, each half of the time, it goes one of them; regression goes between."""
    sides = torch.tensor([-1.0, 1.0]).repeat(8)
    position = torch.tensor([-0.2, 0.0, 0.15]).repeat(16, 4, 1)
    position[..., 1] += 0.2 * sides[:, None]
    gripper = (sides > 0).float()[:, None].repeat(1, 4)
    labels = replace(targets(camera, 16, 4), position=position, gripper=gripper)
    seen = FeatureMap(maps(1).dense.expand(16, -1, -1, -1, -1))
    tiny = {"down_dims": (64,), "kernel_size": 3, "n_draws": 8, "sampler": "ddim", "n_eval_iterations": 16}
    head, regression = diffusion(4, **tiny), head_of("regression", 4)
    losses = trained(head, seen, labels, 150)
    assert np.mean(losses[-20:]) < 0.2 * np.mean(losses[:5])
    trained(regression, seen, labels, 40)
    found = []
    for seed in range(24):
        head.cfg = replace(head.cfg, seed=seed)
        (chunk,) = head.decode(head(maps(1)), [camera])
        found.append((chunk.position[:, 1], chunk.gripper))
    y, opening = (np.stack(x) for x in zip(*found, strict=True))
    way = np.sign(y.mean(1, keepdims=True))
    assert {*way.ravel()} == {-1.0, 1.0}
    goes = (np.abs(y - 0.2 * way).max(1) < 0.1) & (np.abs(opening - (way > 0)).max(1) < 0.4)  # in all that it says
    assert goes.mean() > 0.8  # here and there a noise is on the watershed
    (between,) = regression.decode(regression(maps(1)), [camera])
    assert np.abs(between.position[:, 1]).max() < 0.1


class Knows(nn.Module):
    """The noise that turned a known chunk into what is given."""

    def __init__(self, chunk: Tensor, share: Tensor) -> None:
        super().__init__()
        self.chunk, self.share = chunk, share

    def forward(self, noised: Tensor, level: Tensor, seen: Tensor) -> Tensor:
        share = self.share[level][:, None, None]
        return (noised - share.sqrt() * self.chunk) / (1 - share).sqrt()


@pytest.mark.parametrize(("sampler", "n"), [("ddpm", 100), ("ddim", 16), ("ddpm", 7)])
def test_the_right_noise_leads_to_the_right_chunk(camera: Camera, sampler: str, n: int) -> None:
    """In metres and openings, whatever noise it began with."""
    head, labels = diffusion(sampler=sampler, n_eval_iterations=n), targets(camera, 2)
    truth = torch.cat([head.goal(labels), 2 * labels.gripper[..., None] - 1], -1)
    head.net = Knows(held(truth, labels.valid, head.n_padded), head.schedule.alphas_cumprod)
    for i, chunk in enumerate(head.decode(head(maps(2)), [camera, camera])):
        np.testing.assert_allclose(chunk.position, labels.position[i], atol=1e-5)
        np.testing.assert_allclose(chunk.gripper, labels.gripper[i], atol=1e-5)
        assert chunk.period == 0.25


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_samples_depend_on_what_is_seen_alone(camera: Camera, sampler: str) -> None:
    """Not on what else is in the batch, nor on what was drawn before; another seed says something else."""
    head = diffusion(sampler=sampler, n_eval_iterations=16)
    seen = head(maps(3))
    together = head.decode(seen, [camera] * 3)
    torch.randn(5)
    for i, chunk in enumerate(together):
        (alone,) = head.decode(seen[i : i + 1], [camera])
        np.testing.assert_allclose(alone.position, chunk.position, atol=1e-5)
        np.testing.assert_allclose(alone.gripper, chunk.gripper, atol=1e-5)
    assert all((a.position == b.position).all() for a, b in zip(together, head.decode(seen, [camera] * 3), strict=True))
    other = diffusion(sampler=sampler, n_eval_iterations=16, seed=1).decode(seen, [camera] * 3)
    assert np.abs(other[0].position - together[0].position).max() > 0.01


@pytest.mark.parametrize(("clip", "beyond"), [(1.0, False), (3.0, True)])
def test_what_is_clipped_stays_in_the_range_of_training(camera: Camera, clip: float, beyond: bool) -> None:
    """An untrained network says anything."""
    (chunk,) = diffusion(clip=clip).decode(torch.zeros(1, 16), [camera])
    margin = (clip - 1) * (HIGH - LOW) / 2 + 1e-6
    assert ((chunk.position >= LOW - margin) & (chunk.position <= HIGH + margin)).all()
    assert beyond == bool(((chunk.position < LOW - 1e-3) | (chunk.position > HIGH + 1e-3)).any())


@pytest.mark.parametrize("n_steps", [1, 6, 12])
def test_chunks_of_any_length(camera: Camera, n_steps: int) -> None:
    """The network sees multiples of four steps; what is added is neither learned nor acted on."""
    head, labels = diffusion(n_steps), targets(camera, 2, n_steps)
    assert (head.n_padded % 4, head.n_padded - n_steps < 4) == (0, True)
    assert head.decode(head(maps(2)), [camera] * 2)[0].position.shape == (n_steps, 3)
    assert 0.5 < head.loss(head(maps(2)), labels)["denoising"].item() < 5


def test_masked_steps_hold_the_last_valid_one() -> None:
    chunk = torch.tensor([[1.0, float("nan"), 3.0, 4.0], [float("nan"), 6.0, 7.0, 8.0], [9.0] * 4])[..., None]
    valid = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
    assert held(chunk, valid, 6)[..., 0].tolist() == [[1, 1, 3, 3, 3, 3], [6, 6, 7, 8, 8, 8], [0] * 6]


def test_training_draws_and_evaluation_does_not(camera: Camera) -> None:
    """From the seed that the trainer sets for each part of a batch."""
    head, labels = diffusion(), targets(camera, 2)
    head.train()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(head.loss(head(maps(2)), labels)["denoising"].item())
    assert found[0] == found[1] != found[2]
    head.eval()
    assert head.loss(head(maps(2)), labels) == head.loss(head(maps(2)), labels)


def test_a_backbone_learns_from_it(camera: Camera) -> None:
    """Every weight of head and network that is not frozen gets a gradient, and the start keypoint does."""
    torch.manual_seed(0)
    backbone = ImageBackbone(ImageConfig(image_size=(64, 64)))
    objective = HeadObjective(backbone, make_head(replace(SMALL, kind="diffusion"), backbone, LABELS, 4), "sum")
    labels = targets(camera, 2)
    batch = {name: getattr(labels, name) for name in ("pixel", "height", "gripper", "position", "valid")}
    frames = torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8)
    batch |= {"frames": frames, "start_pixel": torch.full((2, 2), 30.0)}
    objective(batch, AugmentDraws(None, None))["total"].backward()
    trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    assert any("backbone.net.blocks" in name for name in trained)
    assert not [name for name, p in trained.items() if p.grad is None or not p.grad.any()]


def test_the_defaults_have_the_papers_size() -> None:
    """67 million on its real arms, where two cameras' two pictures and the arm's state are seen; 256 in simulation."""
    for down_dims, millions in (((256, 512, 1024), 67), ((512, 1024, 2048), 256)):
        with torch.device("meta"):
            net = TemporalUnet(down_dims, 5, 8, 128, 2, 2 * (2 * 64 + 2))
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_interrupted_is_uninterrupted(written_dataset: Path, tmp_path: Path) -> None:
    """On an image network: two steps and two more are four, the same noise drawn; what is saved acts, averaged."""

    def train(run: str, **overrides: object) -> dict[str, float]:
        keys = {"run": tmp_path / run, "data__root": written_dataset, "train__ema": 0.999, **SMALLER, **overrides}
        return light.main(config(light.Config, "light", **keys))

    whole = train("whole")
    train("parts", train__n_steps=2)
    assert train("parts") == whole
    lines = [
        [r["denoising"] for r in read_jsonl(tmp_path / x / "metrics.jsonl") if "total" in r] for x in ("whole", "parts")
    ]
    assert lines[0] == lines[1]
    assert len(set(lines[0])) == 4
    with pytest.raises(BadInput, match=r"head.diffusion.kernel_size +5 +3 +cannot change"):
        train("parts", head__diffusion__kernel_size=3)


def test_it_trains_on_a_video_model(written_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """Beside the video model's own loss, in its running units."""
    keys = {"run": tmp_path / "run", "init_from": "null", "data__root": written_dataset, "train__n_steps": 2}
    keys |= {"backbone__pretrained": pipeline_folder, "backbone__n_frames": 4, "backbone__grid": 8, **SMALLER}
    found = joint.main(config(joint.Config, "joint_global", **keys, preview__clips=0))
    assert np.isfinite(found["position_mm"])
    assert {"diffusion", "denoising"} <= {*read_jsonl(tmp_path / "run/metrics.jsonl")[0]}
    assert policy.load(tmp_path / "run")[0].head.n_steps == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"down_dims": (256, 500)}, r"down_dims is \(256, 500\); allowed: multiples of 8 groups"),
        ({"down_dims": ()}, r"down_dims is \(\); allowed: multiples of 8 groups"),
        ({"kernel_size": 4}, r"kernel_size is 4; allowed: odd numbers"),
        ({"step_embed_dim": 3}, r"step_embed_dim is 3; allowed: even numbers from 4"),
        ({"n_groups": 0}, r"n_groups is 0; allowed: at least 1"),
        ({"n_draws": 0}, r"n_draws is 0; allowed: at least 1"),
        ({"n_train_iterations": 10**9}, r"n_train_iterations is 1000000000; allowed: 1 to 1000"),
        ({"n_eval_iterations": 101}, r"n_eval_iterations is 101; allowed: 1 to the 100 of n_train_iterations"),
        ({"clip": 0.5}, r"clip is 0.5; allowed: 1 to 100"),
        ({"seed": -1}, r"seed is -1; allowed: 0 to 2\*\*32 - 1"),
    ],
    ids=lambda x: next(iter(x), "") if isinstance(x, dict) else "",
)
def test_what_makes_no_sense_is_refused(options: dict, words: str) -> None:
    with pytest.raises(BadInput, match=rf"head\.diffusion\.{words}"):
        DiffusionConfig(**options)


def test_it_knows_no_pixels() -> None:
    with pytest.raises(BadInput, match=r"head.kind is 'diffusion'; allowed for it: 'para', 'regression'"):
        HeadConfig(kind="diffusion", labels="2d")
