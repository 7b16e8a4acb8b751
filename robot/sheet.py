"""A contact sheet of episodes: a row for each, pictures in time, framed by what came of it."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from videopolicy.data.files import replace

PLACED, GRASPED, MISSED = (27, 127, 77), (200, 150, 0), (181, 71, 47)  # frames
BORDER = 4  # [pixels]


def write(
    path: Path, episodes: list[list[UInt8[np.ndarray, "height width 3"]]], colours: list[tuple[int, int, int]]
) -> None:
    """A JPEG, whose comment is the number of its rows; episodes may differ in length, pictures not in size."""
    height, width = episodes[0][0].shape[:2]
    n = max(map(len, episodes))
    sheet = np.full((len(episodes) * (height + 2 * BORDER), n * (width + 2 * BORDER), 3), 255, np.uint8)
    for row, (pictures, colour) in enumerate(zip(episodes, colours, strict=True)):
        for column, picture in enumerate(pictures):
            top, left = row * (height + 2 * BORDER), column * (width + 2 * BORDER)
            sheet[top : top + height + 2 * BORDER, left : left + width + 2 * BORDER] = colour
            sheet[top + BORDER : top + BORDER + height, left + BORDER : left + BORDER + width] = picture
    comment = str(len(episodes))
    replace(path, lambda aside: Image.fromarray(sheet).save(aside, "JPEG", quality=85, comment=comment))
