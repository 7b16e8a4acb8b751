"""Copy-paste augmentation: a second copy of the object that is grasped, standing where another demonstration had it.

Copies come from the first pictures of the demonstrations trained on, so their perspective and light are right, and need
no segmentation but the difference from what all those pictures share (after Ghiasi et al. 2021). Labels stay as they
are: the task still means the first one, and what stands around it is all that tells the two apart.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from scipy import ndimage
from torch import Tensor, nn

from videopolicy.data.dataset import ClipDataset
from videopolicy.errors import BadInput

THRESHOLD = 14  # what differs from the background by more is an object [grey levels]
CLOSED = 0.5  # a gripper below this is closed
REACH = 0.06  # the object is no further than this from where the gripper closes [picture widths]
LEAST, MOST = 3e-4, 0.05  # what may be an object [share of the picture]
VISIBLE = 0.8  # a copy stands only where at least this share of it is not hidden by other things


class CopyPaste(nn.Module):
    """The objects to paste, each a picture and its mask, and the empty table that they are pasted onto."""

    background: Tensor
    pictures: Tensor
    masks: Tensor

    def __init__(
        self,
        background: UInt8[Tensor, "height width 3"],
        pictures: UInt8[Tensor, "n height width 3"],
        masks: Bool[Tensor, "n height width"],
    ) -> None:
        super().__init__()
        for name, value in {"background": background, "pictures": pictures, "masks": masks}.items():
            self.register_buffer(name, value, persistent=False)  # made from the data, no part of a checkpoint

    def draw(self, n: int, share: float, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Which object each sample is shown, -1 for none."""
        shown = torch.rand(n, generator=generator) < share
        return torch.randint(len(self.masks), (n,), generator=generator).where(shown, -1)

    def forward(
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
    """The grasped objects of a dataset's demonstrations; `BadInput` where they cannot be told from the background.

    The background is the median of the first pictures, so the camera must be one, and objects must stand elsewhere in
    most of them. An object is what differs from it where the gripper first closes.
    """
    data, episodes = clips.data, list(clips.shown)
    cameras = [data.camera_of(e) for e in episodes]
    if any(not np.allclose(c.T_world_cam, cameras[0].T_world_cam) for c in cameras):
        raise BadInput(f"augment.copies needs pictures of one camera; {data.root} has several; allowed: 0")
    first = np.stack([clips.frames(e)[0] for e in episodes])
    background = torch.from_numpy(np.median(first, axis=0).astype(np.uint8))
    pictures, masks = [], []
    for e, picture, camera in zip(episodes, first, cameras, strict=True):
        closed = np.flatnonzero(data.action(e)[:, 3] < CLOSED)
        if len(closed):
            pixel = camera.resized(clips.image_size).project(data.state(e)[closed[0], :3])
            shown = differs(torch.from_numpy(clips.frames(e)), background).numpy()
            gone = ~shown[closed[0] :].all(0)  # shows the background at some time after: the plate never does
            mask = object_at(shown[0] & gone, pixel)
            if mask is not None:
                pictures.append(torch.from_numpy(picture))
                masks.append(torch.from_numpy(mask))
    if not masks:
        raise BadInput(
            f"augment.copies found no object where the gripper closes in the {len(episodes)} chosen episodes of"
            f" {data.root}; allowed: 0"
        )
    return CopyPaste(background, torch.stack(pictures), torch.stack(masks))


def object_at(shown: Bool[np.ndarray, "height width"], pixel: np.ndarray) -> Bool[np.ndarray, "height width"] | None:
    """The mask of the thing nearest to a pixel, with its edge; None where there is none, or none that is whole."""
    height, width = shown.shape
    # Things that touch are parted, and thin ones dropped, by a disc of this radius that must fit into what is kept.
    radius = max(1, round(width / 112))
    disc = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius + 0.5
    shown = ndimage.binary_opening(ndimage.binary_fill_holes(shown), disc)
    parts, n = ndimage.label(shown)
    if n == 0:
        return None
    v, u = np.mgrid[0:height, 0:width] + 0.5
    distance = np.hypot(u - pixel[0], v - pixel[1])
    large = ndimage.sum_labels(shown, parts, np.arange(n + 1)) >= LEAST * shown.size
    distance[~large[parts] | ~shown] = np.inf
    nearest = np.unravel_index(np.argmin(distance), shown.shape)
    if not distance[nearest] <= REACH * width:
        return None
    mask = parts == parts[nearest]
    edge = np.ones_like(mask)
    edge[1:-1, 1:-1] = False
    if mask.mean() > MOST or (mask & edge).any():
        return None
    return ndimage.binary_dilation(mask)
