"""Copy-paste augmentation: a second copy of the object that is grasped, standing where another demonstration had it.

Copies come from the first pictures of the demonstrations trained on, so their perspective and light are right, and need
no segmentation but the difference from what all those pictures share (after Ghiasi et al. 2021). Labels stay as they
are: the task still means the first one, and what stands around it is all that tells the two apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from scipy import ndimage
from torch import Tensor

from videopolicy.data.dataset import ClipDataset
from videopolicy.errors import BadInput

THRESHOLD = 14  # what differs from the background by more is an object [grey levels]
CLOSED = 0.5  # a gripper below this is closed
REACH = 0.06  # the object is no further than this from where the gripper closes [picture widths]
VISIBLE = 0.8  # a copy stands only where at least this share of it is not hidden by other things
ALIKE = 0.15  # objects' areas and extents, seen from the same distance, differ from the median's by no more [share]


@dataclass(frozen=True)
class CopyPaste:
    """The objects to paste, each a picture and its mask, and the empty table that they are pasted onto."""

    background: UInt8[Tensor, "height width 3"]
    pictures: UInt8[Tensor, "n height width 3"]
    masks: Bool[Tensor, "n height width"]

    def to(self, device: torch.device) -> "CopyPaste":
        return CopyPaste(*(x.to(device) for x in (self.background, self.pictures, self.masks)))

    def draw(self, n: int, share: float, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Which object each sample is shown, -1 for none."""
        shown = torch.rand(n, generator=generator) < share
        return torch.randint(len(self.masks), (n,), generator=generator).where(shown, -1)

    def paste(
        self, frames: UInt8[Tensor, "batch frame height width 3"], chosen: Int[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch frame height width 3"]:
        """The pictures with an object each, behind whatever else they show; without it where it would be hidden."""
        mask = self.masks[chosen.clamp(min=0)] & (chosen >= 0)[:, None, None]
        size = mask.sum((1, 2)).clamp(min=1)[:, None]
        free = mask[:, None] & ~differs(frames, self.background)
        free &= (free.sum((2, 3)) >= VISIBLE * size)[..., None, None]
        return torch.where(free[..., None], self.pictures[chosen.clamp(min=0)][:, None], frames)


def differs(
    frames: UInt8[Tensor, "*batch height width 3"], background: UInt8[Tensor, "height width 3"]
) -> Bool[Tensor, "*batch height width"]:
    """Where pictures show anything but the background."""
    return (frames.to(torch.int16) - background.to(torch.int16)).abs().amax(-1) > THRESHOLD


def copies_of(clips: ClipDataset) -> CopyPaste:
    """The grasped objects of a dataset's demonstrations; `BadInput` where most cannot be told from the background.

    The background is the median of the first pictures, so the camera must be one, and objects must stand elsewhere in
    most of them. An object is what differs from it where the gripper first closes, and later shows it: what stays
    where it is, as a plate does, is none. Those that the hand hides or touches are left out by their size.
    """
    data, episodes = clips.data, list(clips.shown)
    cameras = [data.camera_of(e).resized(clips.image_size) for e in episodes]
    first = cameras[0]
    if any(not (np.allclose(c.T_world_cam, first.T_world_cam) and np.allclose(c.K, first.K)) for c in cameras):
        raise BadInput(f"augment.copies needs pictures of one camera, but {data.root} has several; allowed for it: 0")
    background = torch.from_numpy(np.median([clips.frames(e)[0] for e in episodes], axis=0).astype(np.uint8))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    sizes = []
    for e in episodes:
        closed = np.flatnonzero(data.action(e)[:, 3] < CLOSED)
        if not len(closed):
            continue
        grasp, frames = data.state(e)[closed[0], :3], clips.frames(e)
        shown = differs(torch.from_numpy(frames), background).numpy()
        gone = ~shown[closed[0] :].all(0)
        mask = object_at(shown[0] & gone, first.project(grasp))
        if mask is not None:
            distance = float(np.linalg.norm(grasp - first.position))
            height, width = (np.ptp(np.flatnonzero(mask.any(axis))) + 1 for axis in (1, 0))
            sizes.append([mask.sum() * distance**2, height * distance, width * distance])
            found.append((frames[0], mask))
    alike = (np.abs(np.array(sizes) / np.median(sizes, axis=0) - 1) <= ALIKE).all(1) if found else np.zeros(0, bool)
    if 2 * alike.sum() < len(episodes):
        raise BadInput(
            f"augment.copies found {alike.sum()} whole objects where the gripper closes in the {len(episodes)} chosen"
            f" episodes of {data.root}, fewer than half; allowed for it: 0"
        )
    whole = [each for each, keep in zip(found, alike, strict=True) if keep]
    pictures, masks = (torch.from_numpy(np.stack(each)) for each in zip(*whole, strict=True))
    return CopyPaste(background, pictures, masks)


def object_at(shown: Bool[np.ndarray, "height width"], pixel: np.ndarray) -> Bool[np.ndarray, "height width"] | None:
    """The mask of the thing nearest to a pixel, with its edge; None where there is none near, or the picture cuts it.

    Things that touch are parted, and thin ones dropped: a disc must fit into what is kept.
    """
    height, width = shown.shape
    radius = max(1, round(width / 112))
    disc = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius + 0.5
    parts, _ = ndimage.label(ndimage.binary_opening(ndimage.binary_fill_holes(shown), disc))
    v, u = np.mgrid[0:height, 0:width] + 0.5
    distance = np.where(parts > 0, np.hypot(u - pixel[0], v - pixel[1]), np.inf)
    nearest = np.unravel_index(np.argmin(distance), shown.shape)
    if not distance[nearest] <= REACH * width:
        return None
    mask = parts == parts[nearest]
    if mask[[0, -1]].any() or mask[:, [0, -1]].any():
        return None
    return ndimage.binary_dilation(mask)
