"""Appearance augmentation: other colours over the same scene, and nothing else."""

import math

import pytest
import torch
from builders import MARKERS, agentview, background, discs

from videopolicy.data import appearance
from videopolicy.data.appearance import Appearance, Cloud, draw_appearance, share_of, shown
from videopolicy.data.augment import AugmentConfig
from videopolicy.errors import BadInput
from videopolicy.training.randomness import drawn

SIDE = 64


def looks(share: float, n: int, step: int = 0) -> Appearance:
    return drawn(lambda generator: draw_appearance(share, generator), 0, step, range(n))


def pictures(n: int, n_frames: int = 2) -> torch.Tensor:
    camera = agentview(SIDE)
    image = torch.from_numpy(discs(background(SIDE), camera.project(MARKERS)))
    return image.expand(n, n_frames, -1, -1, -1).contiguous()


def test_a_share_is_changed_and_the_others_to_no_bit() -> None:
    before = pictures(200, 1)
    after = shown(before, looks(0.3, 200))
    n_changed = int((after != before).flatten(1).any(1).sum())
    assert abs(n_changed - 60) < 4 * math.sqrt(200 * 0.3 * 0.7)
    assert torch.equal(shown(before, looks(0.0, 200)), before)


def test_frames_of_a_sample_are_shown_alike_and_samples_differently() -> None:
    after = shown(pictures(6), looks(1.0, 6))
    assert torch.equal(after[:, 0], after[:, 1])
    assert len({after[i].numpy().tobytes() for i in range(6)}) == 6


def test_draws_depend_on_the_place_alone() -> None:
    """So two processes that share a batch, or one that resumes, show the same."""
    before, whole = pictures(4), looks(1.0, 4, step=7)
    second = drawn(lambda generator: draw_appearance(1.0, generator), 0, 7, [2, 3])
    assert torch.equal(shown(before, whole)[2:], shown(before[2:], second))
    assert not torch.equal(shown(before, looks(1.0, 4, step=8)), shown(before, whole))


def flat_cloud(**other: torch.Tensor) -> Cloud:
    """Of no relief, from black to a dark grey, unless something else is said."""
    zero = torch.zeros(1, dtype=torch.float64)
    values = {
        "noise": torch.zeros(1, 32, 32, dtype=torch.float64),
        "cells": torch.tensor([2]),
        "sharpness": torch.ones(1, dtype=torch.float64),
        "paint": torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.2, 0.2]]], dtype=torch.float64),
        "repeated": zero,
        "waves": torch.zeros(1, 2, 4, dtype=torch.float64),
        "recedes": torch.zeros(1, 2, dtype=torch.float64),
        "bent": zero,
    }
    return Cloud(**(values | other))


def test_patterns_repeat_as_often_as_stated() -> None:
    """Three bright stripes across; crossed by others they are a lattice, and where they recede they stand denser."""
    stripes = torch.tensor([[[3.0, 0.0, 0.3, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    some = {"repeated": torch.ones(1), "sharpness": torch.full((1,), 20.0)}

    def borders(x: torch.Tensor) -> int:
        """Changes between dark and bright along a line of pixels."""
        return int((x > 0.5).diff().sum())

    share = share_of(flat_cloud(waves=stripes, **some), (40, 120))[0]
    assert all(borders(row) == 6 for row in share)
    assert not (share.diff(dim=0) != 0).any()
    lattice = stripes.clone()
    lattice[:, 1] = torch.tensor([0.0, 2.0, 0.0, 1.0])
    crossed = share_of(flat_cloud(waves=lattice, **some), (40, 120))[0]
    assert max(borders(row) for row in crossed) == 6
    assert max(borders(column) for column in crossed.T) == 4
    receding = share_of(flat_cloud(waves=3 * stripes, recedes=torch.tensor([[0.5, 0.0]]), **some), (40, 240))[0, 0]
    assert borders(receding[:120]) > borders(receding[120:]) + 2


def test_colours_are_mixed_as_stated() -> None:
    """A half turn of the hue about grey makes the complementary colour; greys stay; an offset is added."""
    image = torch.tensor([[200, 60, 40], [90, 90, 90]], dtype=torch.uint8).expand(1, 1, 2, 2, 3)
    same = torch.eye(3, 4, dtype=torch.float64)[None]
    reflected = same.clone()
    reflected[0, :, :3] = 2 / 3 - torch.eye(3, dtype=torch.float64)  # about the grey axis
    flat, none = torch.zeros(1, 4, 4, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    black = flat_cloud()
    out = shown(image, Appearance(reflected, flat, black, none))
    assert out[0, 0, 0].tolist() == [[0, 140, 160], [90, 90, 90]]
    brighter = shown(image, Appearance(same, flat + math.log(1.5), black, none))
    assert brighter[0, 0, 0].tolist() == [[255, 90, 60], [135, 135, 135]]
    # A cloud of no relief has the middle of its two colours: 0.1 of 255 here.
    covered = shown(image, Appearance(same, flat, black, none + 1))
    assert (covered.float() - 26).abs().max() <= 1
    half = shown(image, Appearance(same, flat, black, none + 0.5))
    assert half[0, 0, 0].tolist() == [[113, 43, 33], [58, 58, 58]]


def test_ranges_are_kept_and_used() -> None:
    found = looks(1.0, 300)
    assert found.light.abs().max() <= appearance.SHADE
    assert found.opacity.min() >= 0
    assert 0.9 * appearance.OPACITY < found.opacity.max() <= appearance.OPACITY
    low, high = appearance.GRAIN
    assert low == found.cloud.cells.min()
    assert 0.9 * high < found.cloud.cells.max() <= high
    repeated = found.cloud.repeated
    assert 0.4 < (repeated > 0).float().mean() < 0.6
    assert repeated.max() <= 1
    low, high = appearance.PERIODS
    first, second = found.cloud.waves[:, :, :2].norm(dim=-1).unbind(1)
    assert low <= first.min() < 1.2 * low
    assert 0.8 * high < first.max() <= high
    assert ((second / first).log2().abs() <= 1 + 1e-9).all()
    assert (found.cloud.waves[:, 0, :2] * found.cloud.waves[:, 1, :2]).sum(-1).abs().max() < 1e-9
    assert found.cloud.recedes.abs().max() <= appearance.RECEDES
    assert found.cloud.bent.max() <= appearance.BENT
    grey = found.colour[:, :, :3].sum(2)  # what grey becomes before the offset: each channel's gain
    low, high = appearance.CONTRAST
    assert grey.min() > low * math.exp(-appearance.BALANCE) - 1e-9
    assert grey.max() < high * math.exp(appearance.BALANCE) + 1e-9


def test_shapes_stay_where_they_are() -> None:
    """The discs' edges are still edges: what moves, or is painted over, would not be in the same place."""
    before = pictures(40, 1)
    after = shown(before, looks(1.0, 40))
    edges = (before[:, 0, :, 1:].float() - before[:, 0, :, :-1].float()).abs().sum(-1) > 60
    contrast = (after[:, 0, :, 1:].float() - after[:, 0, :, :-1].float()).abs().sum(-1)
    assert edges.any()
    seen = [float(contrast[i][edges[i]].mean() > 2 * contrast[i][~edges[i]].mean()) for i in range(40)]
    assert sum(seen) >= 36


@pytest.mark.parametrize("name", ["appearance", "backdrop", "limbs"])
@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(name: str, share: float) -> None:
    with pytest.raises(BadInput, match=rf"augment\.{name} is {share}; allowed: 0 to 1, a share of the samples"):
        AugmentConfig(**{name: share})
