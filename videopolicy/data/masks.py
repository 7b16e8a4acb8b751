"""Masks of a robot or a hand in recorded pictures, and pictures without what they cover."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from videopolicy.data.files import reading
from videopolicy.data.video import read_video
from videopolicy.errors import BadInput

N_SIGHTS = 7  # of a covered pixel, whose median it gets; an odd number
REACH = 0.1  # of the width: how far from the point between open fingers the nearest of them may be


def read_masks(folder: Path, name: str, n_frames: int) -> Bool[np.ndarray, "frame height width"]:
    """An episode's masks: `<name>.mp4`, covered where it is brighter than half, or pictures `<name>/*.png`, not black.

    `BadInput` where there are none, or not one for each of `n_frames` frames.
    """
    video, pictures = folder / f"{name}.mp4", sorted((folder / name).glob("*.png"))
    if video.is_file():
        with reading(video):
            return read_video(video, n_frames).max(-1) > 127  # between black and white, whatever the coding did to both
    if len(pictures) != n_frames:
        raise BadInput(
            f"{folder / name} holds {len(pictures)} masks, and there is no {video.name}; allowed: one PNG for each of"
            f" the video's {n_frames} frames, or one video of them"
        )
    masks = []
    for path in pictures:
        with reading(path), Image.open(path) as image:
            mask = np.asarray(image)
        masks.append(mask[..., :3].any(-1) if mask.ndim == 3 else mask > 0)  # without how opaque it is
        if masks[-1].shape != masks[0].shape:
            raise BadInput(f"{path} is {masks[-1].shape[::-1]}, the first mask {masks[0].shape[::-1]}")
    return np.stack(masks)


def check_masks(
    masks: Bool[np.ndarray, "frame height width"],
    size: tuple[int, int],
    pixels: Float[np.ndarray, "frame 2"],
    name: str,
) -> None:
    """`BadInput` where masks are not of the pictures' size (width, height), or leave what stands at `pixels`.

    That is all that can be told of them: in a frame whose pixel is in the picture there is something to cover, and near
    it. Near is within `REACH`: the pixel may be between fingers that are open, which a mask rightly leaves.
    """
    if masks.shape[:0:-1] != size:
        raise BadInput(f"masks of {name} are {masks.shape[:0:-1]} pixels, its pictures {size}; allowed: the same size")
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    left = np.flatnonzero(inside & ~masks.any((1, 2)))
    if len(left):
        at = pixels[left[0]].round(1).tolist()
        raise BadInput(
            f"masks of {name} are empty in {len(left)} frames in which the end effector is in the picture, first in"
            f" frame {left[0]}, at {at}; allowed: masks that cover all of the robot or hand"
        )
    for frame in np.flatnonzero(inside):
        rows, columns = np.nonzero(masks[frame])
        away = float(np.hypot(columns + 0.5 - pixels[frame, 0], rows + 0.5 - pixels[frame, 1]).min())
        if away > REACH * size[0]:
            raise BadInput(
                f"the mask of {name} leaves the end effector of frame {frame}, at {pixels[frame].round(1).tolist()}:"
                f" nothing within {away:.1f} pixels is covered; allowed: {REACH * size[0]:.1f}, a tenth of the width"
            )


def filled(
    frames: UInt8[np.ndarray, "frame height width 3"], masks: Bool[np.ndarray, "frame height width"], grow: int = 0
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Pictures without what masks cover, grown by `grow` pixels: the median of a pixel's `N_SIGHTS` nearest in time.

    The camera stands still within an episode, so what was behind the robot a moment ago, or will be, is there. A median
    over the whole episode would show a table where a bowl still stands, the nearest sight alone what just passed by,
    and interpolation within the picture smears all of it. Where there are fewer sights the nearest counts for the rest;
    a pixel that is never seen is as the nearest one that is. `BadInput` where none ever is.
    """
    if grow:
        disc = np.hypot(*np.mgrid[-grow : grow + 1, -grow : grow + 1]) <= grow + 0.5
        masks = np.stack([ndimage.binary_dilation(mask, disc) for mask in masks])
    never = masks.all(0)
    if never.all():
        raise BadInput("the masks cover every pixel of every frame; allowed: those of the robot or hand alone")
    found, time = frames.copy(), np.arange(len(frames))
    for i, mask in enumerate(masks):
        rows, columns = np.nonzero(mask & ~never)
        covered = masks[:, rows, columns]
        order = np.argsort(np.abs(time - i)[:, None] + len(frames) * covered, axis=0, kind="stable")[:N_SIGHTS]
        order = np.where(np.take_along_axis(covered, order, 0), order[:1], order)
        sights = frames[order, rows, columns]
        sights = np.concatenate([sights, *[sights[:1]] * (N_SIGHTS - len(sights))])
        found[i, rows, columns] = np.median(sights, 0)
    if never.any():
        rows, columns = ndimage.distance_transform_edt(never, return_distances=False, return_indices=True)
        found[:, never] = found[:, rows[never], columns[never]]
    return found
