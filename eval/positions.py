"""Where bowl and plate stand: the 16 x 16 position grid and the positions held out from it."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from videopolicy.data.splits import N_GRID
from videopolicy.errors import BadInput, choices

X_RANGE, Y_RANGE = (-0.41, -0.02), (-0.30, 0.30)  # bowl positions over 39 x 60 cm [m]
EVALUATED = "libero_spatial/pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"
PLATE_OFFSET = np.array([0.11, 0.0])  # plate - bowl, the task's default arrangement [m]
PLATE_XY = np.array([0.06, 0.20])  # where the task itself has the plate [m]
JITTER = 0.01  # [m], at most, of an episode's objects and of the arm's start
PLATE_CLEARANCE = 0.16  # [m] between the middles of bowl and plate, at least, where the bowl moves alone
Shift = Literal["both", "bowl"]  # bowl and plate move together, or the plate stays where the task has it
Variant = Literal["clean", "full", "no_second_bowl"]  # of the scene: without the task's other things, with, ...
Part = Literal["left", "right", "near", "far", "all"]
Half = Literal["seen", "unseen"]  # of the table, as the demo evaluates them: the left is trained on
HALVES: tuple[Half, ...] = get_args(Half)


@dataclass(frozen=True)
class Cell:
    """A cell of the position grid: row 0 is nearest to the robot, column 0 at the image's left."""

    row: int
    col: int

    @property
    def bowl_xy(self) -> Float[np.ndarray, " 2"]:
        return np.array([np.linspace(*X_RANGE, N_GRID)[self.row], np.linspace(*Y_RANGE, N_GRID)[self.col]])


def cells(part: Part) -> list[Cell]:
    """Cells of a part of the grid, nearest rows first."""
    if part not in get_args(Part):
        raise choices("part", part, get_args(Part))
    half = range(N_GRID // 2), range(N_GRID // 2, N_GRID)
    rows = {"near": half[0], "far": half[1]}.get(part, range(N_GRID))
    cols = {"left": half[0], "right": half[1]}.get(part, range(N_GRID))
    return [Cell(row, col) for row in rows for col in cols]


def grid(part: Part) -> Float[np.ndarray, "cell 2"]:
    """Bowl positions of a part of the grid (left: y < 0, near: smaller x), nearest rows first."""
    return np.stack([cell.bowl_xy for cell in cells(part)])


def training_cells(part: Part, n: int, seed: int) -> list[Cell]:
    """`n` of a part's cells in a seeded order; a smaller n is the beginning of a larger one."""
    every = cells(part)
    if not 1 <= n <= len(every):
        raise BadInput(f"grid.n_positions is {n}; allowed: 1 to {len(every)}, the cells of part {part}")
    return [every[i] for i in np.random.default_rng(seed).permutation(len(every))[:n]]


def validation_cells(trained: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "n 2"]:
    """The left half's cells more than 1 cm from every trained position: what methods are tuned on."""
    every = grid("left")
    return every[np.linalg.norm(every[:, None] - trained[None], axis=-1).min(1) > 0.01]


def held_out_positions(split: str, n: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """Positions between grid cells, never a training position: on the trained half, or stratified over the other.

    Each is the centre of a square of four cells, jittered by at most a quarter of a cell.
    """
    if split not in HALVES:
        raise choices("split", split, HALVES)
    centres, step = _between("left" if split == "seen" else "right")
    rng = np.random.default_rng([seed, split == "unseen"])
    centres = _in_turn(centres[rng.permutation(len(centres))], axis=1)
    return np.resize(centres, (n, 2)) + rng.uniform(-0.25, 0.25, (n, 2)) * step


def stratified(part: Part, n: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """Positions halfway between a part's cells, every distance from the part's inner edge equally often."""
    centres, _ = _between(part)
    centres = centres[np.random.default_rng([seed, *part.encode()]).permutation(len(centres))]
    if n > len(centres):
        raise BadInput(f"{n} test positions; allowed: at most {len(centres)} in part {part}")
    return _in_turn(centres, axis=0 if part in ("near", "far") else 1)[:n]


def _between(part: Part) -> tuple[Float[np.ndarray, "centre 2"], Float[np.ndarray, " 2"]]:
    """Centres of squares of four cells, and how far cells are apart."""
    every = grid(part)
    xs, ys = np.unique(every[:, 0]), np.unique(every[:, 1])
    step = np.array([xs[1] - xs[0], ys[1] - ys[0]])
    return np.stack(np.meshgrid(xs[:-1], ys[:-1], indexing="ij"), -1).reshape(-1, 2) + step / 2, step


def _in_turn(centres: Float[np.ndarray, "centre 2"], axis: int) -> Float[np.ndarray, "centre 2"]:
    """One of each line across an axis, again and again: every distance from a boundary is met equally often."""
    turn = [np.sum(centres[:i, axis] == c[axis]) for i, c in enumerate(centres)]
    return centres[np.argsort(turn, kind="stable")]


def is_apart(bowl_xy: Float[np.ndarray, " 2"]) -> bool:
    """Whether the bowl is clear of a plate that stays where the task has it."""
    return bool(np.linalg.norm(bowl_xy - PLATE_XY) >= PLATE_CLEARANCE)


def beyond_boundary(position: Float[np.ndarray, " 2"]) -> float:
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
