"""Limb augmentation: some arm reaches for the start keypoint, and nothing else changes."""

import math

import numpy as np
import pytest
import torch

from videopolicy.data import limbs
from videopolicy.data.limbs import N_PARTS, Limb, draw_limb, reached_for
from videopolicy.data.overlay import Circle, CircleConfig, overlaid
from videopolicy.training.randomness import drawn

SIDE = 200


def some(share: float, n: int, step: int = 0) -> Limb:
    return drawn(lambda generator: draw_limb(share, generator), 0, step, range(n))


def grey(n: int, height: int = SIDE, width: int = SIDE, n_frames: int = 1) -> torch.Tensor:
    return torch.full((n, n_frames, height, width, 3), 119, dtype=torch.uint8)


def starts(n: int, u: float = 100.0, v: float = 100.0) -> torch.Tensor:
    return torch.tensor([[u, v]]).repeat(n, 1)


def capsule(first: list[float], last: list[float], radius: float, light: float = 0.0, shade: float = 0.0) -> Limb:
    """One white part, nothing else."""
    one = torch.zeros(1, N_PARTS, dtype=torch.float64)
    ends = torch.zeros(1, N_PARTS, 2, 2, dtype=torch.float64)
    ends[0, 0] = torch.tensor([first, last])
    size = one.clone()
    size[0, 0] = radius
    paint = torch.ones(1, N_PARTS, 3, dtype=torch.float64)
    return Limb(torch.tensor([True]), ends, size, paint, *torch.tensor([[light], [shade]], dtype=torch.float64))


def test_a_share_is_changed_and_the_others_to_no_bit() -> None:
    before = grey(200)
    changed = (reached_for(before, starts(200), some(0.3, 200)) != before).flatten(1).any(1)
    assert abs(int(changed.sum()) - 60) < 4 * math.sqrt(200 * 0.3 * 0.7)
    assert torch.equal(reached_for(before, starts(200), some(0.0, 200)), before)


def test_without_a_start_keypoint_nothing_reaches() -> None:
    before, start = grey(2), starts(2)
    start[0] = torch.nan
    after = reached_for(before, start, some(1.0, 2))
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_frames_of_a_sample_are_painted_alike_and_samples_differently() -> None:
    before = grey(6, height=120, n_frames=2)
    before[:, 1] = 60
    after = reached_for(before, starts(6, 100.0, 60.0), some(1.0, 6))
    first, second = (after != before).any(-1).unbind(1)
    assert first.float().mean() > 0.03
    assert (first != second).float().mean() < 0.003  # where the paint is as grey as a frame is
    assert len({after[i].numpy().tobytes() for i in range(6)}) == 6


def test_lengths_are_in_widths_also_where_a_picture_is_less_high() -> None:
    limb = some(1.0, 10)
    square, wide = (reached_for(grey(10, height), starts(10, 100.0, 60.0), limb) for height in (SIDE, 120))
    assert torch.equal(square[:, :, :120], wide)


def test_draws_depend_on_the_place_alone() -> None:
    second = drawn(lambda generator: draw_limb(1.0, generator), 0, 7, [2, 3])
    whole = reached_for(grey(4), starts(4), some(1.0, 4, step=7))
    assert torch.equal(whole[2:], reached_for(grey(2), starts(2), second))


def test_it_moves_with_the_start_keypoint_and_grows_with_the_picture() -> None:
    limb = some(1.0, 20)
    here, there = (reached_for(grey(20), starts(20, *at), limb) for at in ((100.0, 100.0), (80.0, 130.0)))
    assert (here[:, :, :-30, 20:].int() - there[:, :, 30:, :-20].int()).abs().max() <= 1  # rounded
    large = reached_for(grey(20, 2 * SIDE, 2 * SIDE), starts(20, 200.0, 200.0), limb)
    changed, larger = ((x != 119).any(-1).float().mean((1, 2, 3)) for x in (here, large))
    assert (larger - changed).abs().max() < 0.02


def test_all_that_is_drawn_hangs_together_from_the_keypoint() -> None:
    """Each has something by the keypoint, and mostly goes on to the picture's border, upwards or sideways."""
    for at in ((100.0, 100.0), (3.0, 3.0), (199.0, 199.0)):
        changed = (reached_for(grey(100), starts(100, *at), some(1.0, 100)) != 119).any(-1)[:, 0]
        v, u = torch.meshgrid(*2 * [torch.arange(SIDE) + 0.5], indexing="ij")
        near = torch.hypot(u - at[0], v - at[1]) < SIDE * (limbs.APART[1] + limbs.FINGER[1] + limbs.TIP[1])
        assert (changed & near).flatten(1).any(1).all()
    changed = (reached_for(grey(100), starts(100), some(1.0, 100)) != 119).any(-1)[:, 0]
    leaves = changed[:, 0].any(1) | changed[:, :, 0].any(1) | changed[:, :, -1].any(1)
    assert leaves.float().mean() > 0.6


def test_a_capsule_is_where_and_as_large_as_stated() -> None:
    for last, length in (([0.3, 0.0], 60.0), ([0.0, -0.2], 40.0), ([-0.12, 0.16], 40.0), ([0.0, 0.0], 0.0)):
        after = reached_for(grey(1), starts(1), capsule([0.0, 0.0], last, 0.05))[0, 0, :, :, 0].float()
        area = (after - 119).sum() / (255 - 119)
        assert area == pytest.approx(math.pi * 100 + 2 * 10 * length, rel=0.01)
        centre = ((after - 119) * (torch.arange(SIDE) + 0.5)).sum() / (after - 119).sum()
        assert float(centre) == pytest.approx(100 + last[0] * SIDE / 2, abs=0.05)


def test_it_is_round_and_lit_from_a_side() -> None:
    lit = capsule([0.0, 0.0], [0.3, 0.0], 0.1, light=-0.5, shade=0.8)
    column = reached_for(grey(1), starts(1), lit)[0, 0, :, 130, 0]
    assert column.argmax() in (89, 90)  # half a radius above the axis, which goes to the right
    assert column[81:90].int().diff().min() > 0
    assert column[90:110].int().diff().max() < 0
    assert column[110] == pytest.approx(255 * (1 - 0.8), abs=3)  # as dark as it gets


def test_parts_named_later_are_in_front() -> None:
    limb = capsule([-0.2, 0.0], [0.2, 0.0], 0.05)
    limb.ends[0, 1] = torch.tensor([[0.0, -0.2], [0.0, 0.2]])
    limb.radius[0, 1] = 0.02
    limb.paint[0, 1] = torch.tensor([1.0, 0.0, 0.0])
    after = reached_for(grey(1), starts(1), limb)[0, 0]
    assert after[100, 100].tolist() == [255, 0, 0]
    assert after[100, 120].tolist() == [255, 255, 255]


def test_ranges_are_kept_and_used() -> None:
    found = some(1.0, 400)
    links, palm, fingers, tip = found.radius.split([limbs.N_LINKS, 1, 2, 1], 1)
    for radius, (low, high) in ((links, limbs.THICK), (palm, limbs.PALM), (fingers, limbs.THIN)):
        assert fills(radius, low, high)
    assert abs(float((tip > 0).double().mean()) - limbs.COVERS) < 0.1
    assert fills(tip[tip > 0], *limbs.TIP)
    assert fills(found.light, -1, 1)
    assert fills(found.shade, 0, limbs.SHADE)
    hue = (found.paint.amax(-1) - found.paint.amin(-1)).amax(1)
    assert abs(float((hue <= 0.1).double().mean()) - limbs.GREY) < 0.1
    assert (found.paint != found.paint[:, :1]).any((1, 2)).float().mean() > 0.9


def test_a_hand_stands_over_the_keypoint_and_an_arm_on_the_hand() -> None:
    found = some(1.0, 400)
    last, *links = found.ends[:, : limbs.N_LINKS].flip(1).unbind(1)  # from the wrist on; painted the other way round
    wrist = last[:, 0]
    heading = last[:, 1] - wrist
    lean = torch.atan2(heading[:, 0], -heading[:, 1])
    assert fills(lean, -limbs.LEAN, limbs.LEAN)
    assert fills(wrist.norm(dim=-1), *limbs.FINGER)
    for link in (last, *links):
        assert fills((link[:, 1] - link[:, 0]).norm(dim=-1), *limbs.LINK)
    for before, after in zip((last, *links), links, strict=False):
        assert torch.equal(before[:, 1], after[:, 0])
        (u0, v0), (u1, v1) = ((x[:, 1] - x[:, 0]).unbind(-1) for x in (before, after))
        assert fills(torch.atan2(u0 * v1 - v0 * u1, u0 * u1 + v0 * v1), -limbs.BEND, limbs.BEND)

    # In the hand's own axes: across, and up from the keypoint.
    axes = torch.stack([torch.stack([lean.cos(), lean.sin()], -1), torch.stack([lean.sin(), -lean.cos()], -1)], -1)
    palm, left, right = (found.ends[:, limbs.N_LINKS :] @ axes[:, None]).unbind(1)[:3]
    up = wrist.norm(dim=-1)
    for finger, side in ((left, -1), (right, 1)):
        assert fills(side * finger[:, 0, 0], *limbs.APART)
        assert (finger[:, 1] - finger[:, 0] - torch.stack([0 * up, up], -1)).abs().max() < 1e-9
    assert (palm[..., 1] - up[:, None]).abs().max() < 1e-9
    assert (palm[:, 0, 0] + palm[:, 1, 0]).abs().max() < 1e-9
    assert fills(palm[:, 1, 0] - right[:, 0, 0], 0, limbs.WIDER)


def fills(values: torch.Tensor, low: float, high: float) -> bool:
    """From one end to the other, and no further."""
    near = 0.1 * (high - low)
    a, b = float(values.min()), float(values.max())
    return low - 1e-9 <= a < low + near and high - near < b <= high + 1e-9


def test_a_solid_tip_hides_the_circle() -> None:
    """All but traces of its soft edge, where both are of the same radius."""
    circle = Circle(CircleConfig().radius * SIDE, CircleConfig().colour, np.zeros((1, 2)))
    before = torch.from_numpy(overlaid(grey(1)[0].numpy(), np.array([[100.0, 100.0]]), circle))[None]
    black = capsule([0.0, 0.0], [0.0, 0.0], limbs.TIP[0])
    black.paint[:] = 0.0
    after = reached_for(before, starts(1), black)
    counts = [int((x[..., 0].int() - x[..., 2].int() > 60).sum()) for x in (before, after)]
    assert counts[0] > 90
    assert counts[1] < counts[0] / 10
