"""Backdrop augmentation: what stands still is painted over, things and the arm stay, and shadows are no things."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import FPS, MARKERS, agentview, background, discs, episode, write_dataset

from videopolicy.camera import Camera
from videopolicy.data import backdrop
from videopolicy.data.backdrop import Backdrop, backdrops_of, draw_backdrop, parted, repainted
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.episode import Episode
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput
from videopolicy.training.randomness import drawn

SIDE = 64


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture with a thing and its shadow, and the table before which both are, lighter to the right."""
    before = torch.linspace(120, 200, SIDE)[None, :, None].expand(SIDE, -1, 3) * torch.tensor([1.0, 0.9, 0.8])
    picture = before.clone()
    picture[20:36, 20:36] = torch.tensor([30.0, 60.0, 200.0])
    picture[36:44, 20:44] *= 0.6
    noise = 2 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    frames = (picture + noise).round().clamp(0, 255).to(torch.uint8)
    return frames[None, None], before.round()[None, None]


def before(share: float, n: int = 1) -> Backdrop:
    return drawn(lambda generator: draw_backdrop(share, generator), 0, 0, range(n))


def test_things_and_shadows_are_told_apart() -> None:
    frames, plain = scene()
    things, shade = parted(frames.float(), plain)
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[20:36, 20:36] = True
    assert torch.equal(things[0, 0], expected)
    np.testing.assert_allclose(shade[0, 0, 36:44, 20:44].numpy(), 0.6, atol=0.03)
    assert (shade[0, 0, :20] == 1).all()


def plainly(drawn: Backdrop, **changed: torch.Tensor) -> Backdrop:
    """One grey without noise, shadows as they were and no other: what is painted is then known."""
    cloud = dataclasses.replace(drawn.cloud, paint=torch.full((1, 2, 3), 0.6, dtype=torch.float64))
    known = {"noise": torch.zeros_like(drawn.noise), "shade": torch.ones(1), "dark": torch.ones(1)}
    return dataclasses.replace(drawn, cloud=cloud, **(known | changed))


def test_the_rest_is_painted_over_and_shadows_fall_on_it() -> None:
    frames, plain = scene()
    one = plainly(before(1.0))
    out = repainted(frames, plain, one)[0, 0].float()
    assert (out[22:34, 22:34] == frames[0, 0, 22:34, 22:34]).all()
    assert (out[:18] == 153).all()
    np.testing.assert_allclose(out[38:43, 22:42].numpy(), 0.6 * 153, atol=5)
    unshaded = repainted(frames, plain, plainly(one, shade=torch.zeros(1)))[0, 0].float()
    assert (unshaded[38:43, 22:42] == 153).all()


def test_another_shadow_falls_where_it_is_bent_to() -> None:
    """Turned upside down and moved to the right by half a picture: darker there, and nowhere else."""
    frames, plain = scene()
    bent = torch.tensor([[[1.0, 0.0, 1.0], [0.0, -1.0, 0.0]]])
    one = plainly(before(1.0), shade=torch.zeros(1))
    plain_out, out = (
        repainted(frames, plain, dataclasses.replace(one, bent=bent, dark=torch.full((1,), dark)))[0, 0].float()
        for dark in (1.0, 0.5)
    )
    ratio = (out / plain_out)[..., 0]
    np.testing.assert_allclose(ratio[22:34, 53:64].numpy(), 0.5, atol=0.02)
    assert (ratio[:, :48] == 1).all()
    assert (ratio[:18] == 1).all()


def test_a_share_is_painted_and_the_others_to_no_bit() -> None:
    frames, plain = scene()
    many = frames.expand(60, 1, SIDE, SIDE, 3), plain.expand(60, 1, SIDE, SIDE, 3)
    out = repainted(*many, before(0.5, 60))
    n_changed = int((out != frames).flatten(1).any(1).sum())
    assert 15 < n_changed < 45
    assert torch.equal(repainted(*many, before(0.0, 60)), many[0])


def test_draws_are_within_their_ranges() -> None:
    many = before(1.0, 200)
    assert many.painted.all()
    assert backdrop.SHADE[0] <= many.shade.min() < 0.1
    assert 0.9 * backdrop.SHADE[1] < many.shade.max() <= backdrop.SHADE[1]
    low, high = backdrop.DARK
    assert low <= many.dark.min() < low + 0.05
    assert ((many.dark == 1) | (many.dark <= high)).all()
    assert 0.2 < (many.dark == 1).float().mean() < 0.4
    strength = many.noise.flatten(1).std(1)
    assert strength.min() < 1
    assert 0.9 * backdrop.NOISE < strength.max() < 1.1 * backdrop.NOISE


def clips(root: Path) -> ClipDataset:
    data = Dataset(root)
    return ClipDataset(data, list(range(len(data))), 1, 6, (SIDE, SIDE), 1.0)


def test_a_backdrop_is_what_stands_still(written_dataset: Path) -> None:
    """Of a camera's episodes: the empty table, with what moves in none of its places."""
    every = clips(written_dataset)
    found = backdrops_of(every)
    assert set(found) == set(every.shown)
    one = np.asarray(found[0][np.array([0])])[0]
    assert all(np.array_equal(np.asarray(found[e][np.array([0])])[0], one) for e in found)
    moving = (np.abs(every.frames(0).astype(int) - one).max(-1) > backdrop.DIFFERS).mean()
    assert 0 < moving < 0.3
    assert found[0][np.array([0, 2])].shape == (2, SIDE, SIDE, 3)


def test_many_episodes_that_begin_alike_have_no_arm_in_it(
    written_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer pictures than would be two of each episode are still spread over all of it."""
    first = episode(0, 5).frames[0]

    def alike(_number: int, one: Episode) -> Episode:
        return dataclasses.replace(one, frames=np.concatenate([first[None], one.frames[1:]]))

    root = write_dataset(tmp_path / "alike", lengths=(6,) * 6, change=alike)
    monkeypatch.setattr(backdrop, "N_PICTURES", 9)
    found = np.asarray(backdrops_of(clips(root))[0][np.array([0])])[0]
    assert np.abs(found.astype(int) - background(SIDE)).max() < backdrop.DIFFERS


def test_cameras_have_their_own(tmp_path: Path) -> None:
    """Three episodes of each of two cameras, before another wall."""
    first = agentview(SIDE)
    T = first.T_world_cam.copy()
    T[0, 3] += 0.05
    second = Camera(first.K, T, first.size)
    writer = Writer(tmp_path / "data", FPS, "agentview", first, "move along a line", moving=True)
    writer.write_markers(MARKERS, discs(background(SIDE), first.project(MARKERS)), background(SIDE))
    for i in range(6):
        one, camera = episode(i % 3, 5), (first, second)[i // 3]
        frames = one.frames if camera is first else one.frames // 2
        writer.append(dataclasses.replace(one, frames=frames, extra={**one.extra, "camera": camera.to_json()}))
    writer.finish()
    found = backdrops_of(clips(tmp_path / "data"))
    here, there = (np.asarray(found[e][np.array([0])])[0].astype(float) for e in (0, 3))
    np.testing.assert_allclose(there, here / 2, atol=6)


def test_too_few_episodes_of_a_camera_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"augment\.backdrop needs 3 episodes or more of each camera, but .* has 2 of"):
        backdrops_of(clips(write_dataset(tmp_path / "few", lengths=(5, 5))))
