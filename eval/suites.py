"""The out-of-distribution axes: what each trains on, and the episodes that it is tested on.

Positions, views and their numbers are fixed by the seed and the same for every policy, so that policies can be compared
episode by episode.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from eval.orbit import PHIS, THETAS
from eval.positions import (
    HALVES,
    JITTER,
    PLATE_OFFSET,
    PLATE_XY,
    X_RANGE,
    Y_RANGE,
    Half,
    Shift,
    Variant,
    beyond_boundary,
    cells,
    episode_seed,
    held_out_positions,
    is_apart,
    stratified,
    validation_cells,
)
from videopolicy.data.splits import N_GRID, SUBLATTICE, Select, corner_cells
from videopolicy.errors import BadInput, choices

Axis = Literal["left_right", "near_far", "viewpoint", "hemisphere", "distractors", "corners_32", "dense_64"]
AXES: tuple[Axis, ...] = get_args(Axis)
Split = Literal[Axis, Half, "validation", "inner_left", "outer_left", "distractors_one_bowl", "few_shot"]
TRAINED_ON: dict[Split, Select] = {  # the training set that belongs to an axis
    "left_right": "left",
    "near_far": "near",
    "viewpoint": "dense_64",  # seen by LIBERO's own camera
    "hemisphere": "hemisphere",
    "distractors": "dense_64",
    "corners_32": "corners_32",
    "dense_64": "dense_64",
    "distractors_one_bowl": "dense_64",
    "inner_left": "outer_left",  # for tuning, as the next one: all on the left half
    "outer_left": "inner_left",
    "few_shot": "all",  # all over the table, between its cells, however few of them were shown
}
SPLITS: tuple[Split, ...] = get_args(Split)
N_POSITIONS, N_EACH = 20, 5  # test positions of an axis, and episodes at each
N_VIEW = {"viewpoint": 3, "hemisphere": 4}  # axes that move the camera: episodes before each; 100 or more in all
N_STATES = 50  # fixed initial states that LIBERO ships for the task
DEFAULT_XY = PLATE_XY - PLATE_OFFSET  # where they have the bowl, within a centimetre
BOX = np.array([X_RANGE, Y_RANGE]).T
N_HALVES = 40  # episodes on each of the demo's halves


@dataclass(frozen=True)
class Trial:
    """One episode: where things stand and who looks, and what it is grouped by."""

    bowl_xy: Float[np.ndarray, " 2"]
    start_jitter: Float[np.ndarray, " 3"]
    distance: float  # to the nearest training position; of seen and unseen, beyond the trained half [m]
    seed: int
    group: int  # episodes with the same number share a position within JITTER, or an initial state
    plate_xy: Float[np.ndarray, " 2"] | None = None  # None: moves with the bowl
    view: tuple[float, float] | None = None  # (theta, phi) of `eval.orbit`; None: LIBERO's own camera
    scene: Variant = "clean"
    init_state: int | None = None  # of LIBERO's fixed ones; positions are then its own

    def job(self) -> dict:
        """What a simulator process needs to know."""
        names = ("bowl_xy", "plate_xy", "start_jitter", "view", "scene", "init_state")
        return {name: getattr(self, name) for name in names}

    def record(self) -> dict:
        """What a result says of its episode."""
        place = {"bowl_xy": self.bowl_xy.round(4).tolist(), "distance": round(self.distance, 4)}
        return {"seed": self.seed, "group": self.group, **place, "view": self.view, "init_state": self.init_state}


def trials(split: Split, n: int | None, seed: int, trained: Float[np.ndarray, "n 2"], shift: Shift) -> list[Trial]:
    """The episodes of a split, the first `n` of them where that is given; `trained` are the training positions.

    Every position or camera of an axis comes once before any comes again, cameras in random order: the first `n` are
    spread.
    """
    if split not in SPLITS:
        raise choices("splits", split, SPLITS)
    if split in HALVES:
        n = n or N_HALVES
        # Some positions fall away where the plate stays: draw more than are asked for.
        found = _half_trials(split, held_out_positions(split, n if shift == "both" else 2 * n, seed), seed)
    elif split == "validation":
        found = _half_trials(split, validation_cells(trained), seed)
    else:
        found = _axis_trials(split, seed, trained)
    if shift == "bowl":
        if any(t.init_state is not None for t in found):
            raise BadInput(f"shift is 'bowl', but {split} has LIBERO's own positions; allowed for it: both")
        found = [replace(t, plate_xy=PLATE_XY) for t in found if is_apart(t.bowl_xy)]
    return found if n is None else found[:n]


def _half_trials(split: Split, positions: Float[np.ndarray, "n 2"], seed: int) -> list[Trial]:
    """Episodes on a half of the table, one at each position."""
    found = []
    for i, bowl_xy in enumerate(positions):
        key = episode_seed("rollout", seed, split, i)
        start = np.random.default_rng(key).uniform(-JITTER, JITTER, 3)
        found.append(Trial(bowl_xy, start, beyond_boundary(bowl_xy), key, group=i))
    return found


def _axis_trials(split: Split, seed: int, trained: Float[np.ndarray, "n 2"]) -> list[Trial]:
    if split in ("distractors", "distractors_one_bowl"):
        scene: Variant = "full" if split == "distractors" else "no_second_bowl"
        return [
            _trial((split, state, episode), state, DEFAULT_XY, seed, trained, scene=scene, init_state=state)
            for episode in range(2)
            for state in range(N_STATES)
        ]
    if split in N_VIEW:
        views = [(t, p) for t in THETAS for p in PHIS if split == "viewpoint" or (p >= 180 and t > 0)]
        views = [views[i] for i in np.random.default_rng(seed).permutation(len(views))]  # the first few are all kinds
        found: list[Trial] = []
        for episode in range(N_VIEW[split]):
            for view in views:
                key = (split, *view, episode)
                position = np.random.default_rng(episode_seed("position", seed, *key)).uniform(*BOX)
                found.append(_trial(key, len(found), position, seed, trained, view=view))
        return found
    return [
        _trial((split, i, episode), i, position, seed, trained, moved=True)
        for episode in range(N_EACH)
        for i, position in enumerate(_positions(split, seed))
    ]


def _positions(split: Split, seed: int) -> Float[np.ndarray, "position 2"]:
    """The test positions of an axis that moves objects."""
    if split in ("left_right", "near_far"):
        return stratified("right" if split == "left_right" else "far", N_POSITIONS, seed)
    if split == "few_shot":
        return stratified("all", N_POSITIONS, seed)
    if split in ("inner_left", "outer_left"):
        tested = [c for c in cells("left") if (c.col >= N_GRID // 4) == (split == "inner_left")]
        chosen = np.random.default_rng(seed).permutation(len(tested))[:N_POSITIONS]
        return np.stack([tested[i].bowl_xy for i in chosen])
    corners = corner_cells()
    others = [
        c
        for c in cells("all")
        if not ((c.row, c.col) in corners if split == "corners_32" else {c.row, c.col} <= SUBLATTICE)
    ]
    chosen = np.random.default_rng([seed, *split.encode()]).permutation(len(others))[:N_POSITIONS]
    return np.stack([others[i].bowl_xy for i in chosen])


def _trial(
    key: tuple,
    group: int,
    position: np.ndarray,
    seed: int,
    trained: np.ndarray,
    moved: bool = False,
    view: tuple[float, float] | None = None,
    scene: Variant = "clean",
    init_state: int | None = None,
) -> Trial:
    """An episode with its jitter: of the start pose, and of objects where `moved`, by at most a centimetre."""
    number = episode_seed("rollout", seed, *key)
    rng = np.random.default_rng(number)
    angle, radius = rng.uniform(0, 2 * np.pi), JITTER * np.sqrt(rng.uniform())
    if moved:
        position = position + radius * np.array([np.cos(angle), np.sin(angle)])
    start = rng.uniform(-JITTER, JITTER, 3)
    distance = float(np.linalg.norm(trained - position, axis=-1).min())
    return Trial(position, start, distance, number, group, None, view, scene, init_state)
