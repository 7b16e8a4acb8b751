"""Masks, and pictures without what they cover: every pixel as it was seen before and after."""

from pathlib import Path

import builders
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from videopolicy.data.masks import check_masks, filled, read_masks
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput

N, SIDE = 6, 32


@pytest.fixture
def masks() -> np.ndarray:
    """A square that moves to the right."""
    found = np.zeros((N, SIDE, SIDE), bool)
    for i in range(N):
        found[i, 8:16, 4 * i : 4 * i + 8] = True
    return found


def save(folder: Path, masks: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"{i:06d}.png")  # 1, not 255: not black is enough


def test_what_stands_still_behind_is_back(masks: np.ndarray) -> None:
    scene = np.repeat(builders.background(SIDE)[None], N, 0)
    frames = np.where(masks[..., None], 255, scene).astype(np.uint8)
    np.testing.assert_array_equal(filled(frames, masks), scene)
    assert (frames != scene).any()
    np.testing.assert_array_equal(filled(frames, np.zeros_like(masks)), frames)


def test_what_moved_meanwhile_is_as_it_was_seen_last_or_next() -> None:
    """Covered from 3 to 8: the colour of 2 for the first half, that of 9 for the rest."""
    frames = np.zeros((12, 4, 4, 3), np.uint8)
    frames[:, 1, 1, 0] = np.arange(12)
    masks = np.zeros((12, 4, 4), bool)
    masks[3:9, 1, 1] = True
    assert filled(frames, masks)[:, 1, 1, 0].tolist() == [0, 1, 2, 2, 2, 2, 9, 9, 9, 9, 10, 11]
    masks[0, 1, 1] = masks[11, 1, 1] = True  # nothing before, nothing after
    assert filled(frames, masks)[[0, 11], 1, 1, 0].tolist() == [1, 10]


def test_what_passes_by_does_not_stay() -> None:
    """A thing that is carried is next to the hand just before the hand is there."""
    frames = np.full((20, 2, 2, 3), 5, np.uint8)
    frames[[7, 10], 0, 0] = 200
    masks = np.zeros((20, 2, 2), bool)
    masks[8:10, 0, 0] = True
    found = filled(frames, masks)
    assert (found[8:10] == 5).all()
    assert (found[[7, 10], 0, 0] == 200).all()  # what is not covered stays


def test_what_is_never_seen_is_as_what_is_next_to_it() -> None:
    frames = np.repeat(np.arange(16, dtype=np.uint8)[None, None, :, None], 2, 0).repeat(8, 1).repeat(3, 3)
    masks = np.zeros((2, 8, 16), bool)
    masks[:, :, :5] = True
    found = filled(frames, masks)
    assert (found[:, :, :5] == 5).all()
    np.testing.assert_array_equal(found[:, :, 5:], frames[:, :, 5:])
    with pytest.raises(BadInput, match=r"the masks cover every pixel of every frame"):
        filled(frames, np.ones_like(masks))


def test_masks_are_grown_over_soft_edges(masks: np.ndarray) -> None:
    scene = np.full((N, SIDE, SIDE, 3), 50, np.uint8)
    edge = np.stack([ndimage.binary_dilation(mask) for mask in masks])
    frames = np.where(edge[..., None], 90, scene).astype(np.uint8)
    assert (filled(frames, masks) == 90).any()
    assert (filled(frames, masks, grow=2) == 50).all()


def test_masks_are_pictures_or_a_video(tmp_path: Path, masks: np.ndarray) -> None:
    save(tmp_path / "one", masks)
    np.testing.assert_array_equal(read_masks(tmp_path, "one", N), masks)
    (tmp_path / "colour").mkdir()
    for i, mask in enumerate(masks):
        opaque = np.dstack(
            [np.zeros((SIDE, SIDE, 2), np.uint8), mask * np.uint8(9), np.full((SIDE, SIDE), 255, np.uint8)]
        )
        Image.fromarray(opaque, "RGBA").save(tmp_path / "colour" / f"{i}.png")
    np.testing.assert_array_equal(read_masks(tmp_path, "colour", N), masks)
    write_video(tmp_path / "two.mp4", np.repeat(masks[..., None] * np.uint8(255), 3, 3), 4)
    assert (read_masks(tmp_path, "two", N) != masks).mean() < 0.01


def test_masks_that_cannot_be_right_are_refused(tmp_path: Path, masks: np.ndarray) -> None:
    save(tmp_path / "one", masks)
    with pytest.raises(
        BadInput, match=r"one holds 6 masks, and there is no one\.mp4; allowed: one PNG for each of the"
    ):
        read_masks(tmp_path, "one", N + 1)
    with pytest.raises(BadInput, match=r"none holds 0 masks"):
        read_masks(tmp_path, "none", N)
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "one/000003.png")
    with pytest.raises(BadInput, match=r"000003\.png is \(9, 8\), the first mask \(32, 32\)"):
        read_masks(tmp_path, "one", N)
    (tmp_path / "one/000003.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"cannot read .*000003\.png"):
        read_masks(tmp_path, "one", N)
    write_video(tmp_path / "two.mp4", np.zeros((N, SIDE, SIDE, 3), np.uint8), 4)
    with pytest.raises(BadInput, match=r"two\.mp4 holds 6 frames, its table says 7"):
        read_masks(tmp_path, "two", N + 1)


def test_masks_that_leave_the_robot_are_refused(masks: np.ndarray) -> None:
    """As far as it can be told: of another size, or empty where there must be something."""
    pixels = np.stack([np.arange(N) * 4.0 + 4.0, np.full(N, 12.0)], 1)
    check_masks(masks, (SIDE, SIDE), pixels, "one")
    with pytest.raises(
        BadInput, match=r"masks of one are \(32, 32\) pixels, its pictures \(64, 32\); allowed: the same"
    ):
        check_masks(masks, (64, SIDE), pixels, "one")
    masks[[2, 4]] = False
    with pytest.raises(
        BadInput, match=r"empty in 2 frames in which the end effector is in the picture, first in frame 2"
    ):
        check_masks(masks, (SIDE, SIDE), pixels, "one")
    pixels[2] = np.nan
    pixels[4] = [32.0, 16.0]  # just outside
    check_masks(masks, (SIDE, SIDE), pixels, "one")


def test_masks_of_something_else_are_refused(masks: np.ndarray) -> None:
    """Of the frame before they pass, as they may: between open fingers nothing is covered. A hand's width away, not."""
    pixels = np.stack([np.arange(N) * 4.0 + 4.0, np.full(N, 12.0)], 1)
    check_masks(masks, (SIDE, SIDE), pixels - [0, 4 + 2.5], "one")
    elsewhere = pixels.copy()
    elsewhere[3] = [4.0, 12.0]  # 8.5 pixels from the nearest that is covered
    line = r"leaves the end effector of frame 3, at \[4\.0, 12\.0\]: nothing within 8\.5 pixels is covered; allowed: 3"
    with pytest.raises(BadInput, match=line):
        check_masks(masks, (SIDE, SIDE), elsewhere, "one")
    elsewhere[3] = np.nan
    check_masks(masks, (SIDE, SIDE), elsewhere, "one")
