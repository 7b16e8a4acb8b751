"""Training sets of the out-of-distribution axes: which episodes of a grid of positions or of views a policy may see.

Episodes say where they were recorded: `row` and `col` of the position grid (row 0 nearest to the robot, column 0 at the
left of the image), or `theta` and `phi` of the camera [degrees].
"""

from typing import Literal

import numpy as np

from videopolicy.errors import BadInput, choices

N_GRID = 16  # rows and columns of the position grid
N_CORNER = 8  # cells trained on in each corner of corners_32
Select = Literal["all", "left", "near", "corners_32", "dense_64", "hemisphere", "outer_left", "inner_left"]
SUBLATTICE = frozenset(np.linspace(0, N_GRID - 1, 8).round().astype(int).tolist())  # spans the grid in each direction


def corner_cells() -> set[tuple[int, int]]:
    """Eight cells of each corner's 4 x 4 block, seeded."""
    rng = np.random.default_rng(32)
    cells: set[tuple[int, int]] = set()
    for row in (0, N_GRID - 4):
        for col in (0, N_GRID - 4):
            chosen = rng.permutation(16)[:N_CORNER]
            cells |= {(row + int(i) // 4, col + int(i) % 4) for i in chosen}
    return cells


def is_selected(select: Select, extra: dict) -> bool:
    """Whether a training set holds the episode that `extra` describes; `KeyError` where it does not say.

    `outer_left` and `inner_left` are for tuning: half of the left half, so that the rest of it is a shift to test on.
    """
    if select == "all":
        return True
    if select == "hemisphere":
        return extra["phi"] < 180
    row, col = extra["row"], extra["col"]
    if select == "left":
        return col < N_GRID // 2
    if select == "near":
        return row < N_GRID // 2
    if select == "outer_left":
        return col < N_GRID // 4
    if select == "inner_left":
        return N_GRID // 4 <= col < N_GRID // 2
    if select == "dense_64":
        return row in SUBLATTICE and col in SUBLATTICE
    if select == "corners_32":
        return (row, col) in corner_cells()
    raise choices("data.select", select, Select.__args__)


def selected(select: Select, extras: list[dict], n_episodes: int, where: object) -> list[int]:
    """Numbers of the episodes that a training set holds; `where` names the dataset in errors."""
    if select == "all":
        return list(range(n_episodes))
    need = ("phi",) if select == "hemisphere" else ("row", "col")
    if len(extras) != n_episodes or any(key not in extra for extra in extras for key in need):
        raise BadInput(
            f"data.select is {select!r}, but {where}/meta/para_episodes.jsonl does not give {' and '.join(need)} of"
            " every episode; allowed for it: all"
        )
    chosen = [i for i, extra in enumerate(extras) if is_selected(select, extra)]
    if not chosen:
        raise BadInput(f"data.select {select!r} leaves none of the {n_episodes} episodes of {where}")
    return chosen


def spread(total: int, n: int) -> list[int]:
    """At most `n` of `total` indices, evenly spread, the first and the last among them."""
    return np.linspace(0, total - 1, min(n, total)).round().astype(int).tolist()
