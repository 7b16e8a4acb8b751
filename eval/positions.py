"""Where bowl and plate stand: the 16 x 16 position grid and the positions held out from it."""

import hashlib
from typing import Literal

import numpy as np
from jaxtyping import Float

from videopolicy.errors import BadInput, choices

N_GRID = 16
X_RANGE, Y_RANGE = (-0.41, -0.02), (-0.30, 0.30)  # bowl positions over 39 x 60 cm [m]
EVALUATED = "libero_spatial/pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"
PLATE_OFFSET = np.array([0.11, 0.0])  # plate - bowl, the task's default arrangement [m]
Half = Literal["left", "right"]


def grid(half: Half) -> Float[np.ndarray, "cell 2"]:
    """Bowl positions of the grid's left (y < 0, image left) or right half, nearest rows first."""
    if half not in ("left", "right"):
        raise choices("half", half, ("left", "right"))
    x, y = np.linspace(*X_RANGE, N_GRID), np.linspace(*Y_RANGE, N_GRID)
    y = y[y < 0] if half == "left" else y[y > 0]
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)


def training_cells(n: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """`n` of the left half's 128 cells, seeded; a smaller n is a subset of a larger one."""
    cells = grid("left")
    if not 1 <= n <= len(cells):
        raise BadInput(f"n_positions is {n}; allowed: 1 to {len(cells)}")
    return cells[np.random.default_rng(seed).permutation(len(cells))[:n]]


def validation_cells(trained: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "n 2"]:
    """The left half's cells more than 1 cm from every trained position: what methods are tuned on."""
    cells = grid("left")
    return cells[np.linalg.norm(cells[:, None] - trained[None], axis=-1).min(1) > 0.01]


def held_out_positions(split: str, n: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """Positions between grid cells, never a training position: on the trained half, or stratified over the other.

    Each is the centre of a square of four cells, jittered by at most a quarter of a cell.
    """
    if split not in ("seen", "unseen"):
        raise choices("split", split, ("seen", "unseen"))
    cells = grid("left" if split == "seen" else "right")
    xs, ys = np.unique(cells[:, 0]), np.unique(cells[:, 1])
    step = np.array([xs[1] - xs[0], ys[1] - ys[0]])
    centres = np.stack(np.meshgrid(xs[:-1], ys[:-1], indexing="ij"), -1).reshape(-1, 2) + step / 2
    rng = np.random.default_rng([seed, split == "unseen"])
    centres = centres[rng.permutation(len(centres))]
    # Column by column, so that every distance to the training boundary is met equally often.
    order = np.argsort([np.sum(centres[:i, 1] == c[1]) for i, c in enumerate(centres)], kind="stable")
    chosen = np.resize(np.arange(len(centres)), n)
    return centres[order][chosen] + rng.uniform(-0.25, 0.25, (n, 2)) * step


def distance_to_training(position: Float[np.ndarray, " 2"]) -> float:
    """Metres beyond the boundary of the trained half; 0 on it."""
    return float(max(0.0, position[1] - grid("left")[:, 1].max()))


def is_evaluation_layout(objects: dict[str, Float[np.ndarray, " 3"]], tolerance: float = 0.05) -> bool:
    """Whether a black bowl and a plate stand as in the evaluated task, anywhere on its grid: no pretraining clip may.

    Positions in metres; an arrangement within `tolerance` of the evaluated one, or of the grid's edge, counts.
    """
    low, high = np.array([X_RANGE[0], Y_RANGE[0]]) - tolerance, np.array([X_RANGE[1], Y_RANGE[1]]) + tolerance
    bowls = [np.asarray(p)[:2] for name, p in objects.items() if "black_bowl" in name]
    plates = [np.asarray(p)[:2] for name, p in objects.items() if "plate" in name]
    return any(
        bool((low < bowl).all() and (bowl < high).all() and np.linalg.norm(plate - bowl - PLATE_OFFSET) < tolerance)
        for bowl in bowls
        for plate in plates
    )


def is_evaluated_goal(name: str, target: str) -> bool:
    """Whether putting one object on another is what policies are evaluated on: a black bowl on a plate."""
    return "black_bowl" in name and "plate" in target


def episode_seed(*key: object) -> int:
    """A seed that depends on nothing but the names given."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "little")
