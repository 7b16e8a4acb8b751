"""How far predictions follow what they see: pictures shifted by pixels, bowl and plate shifted on the table.

Called by `python -m eval.probe --policies`. A policy that follows by a share of 1 acts anywhere in the picture
as it does where it was trained; one that has learned positions by heart follows by 0. Pictures are shifted in three
ways, which differ in what they show where the unshifted picture ends: where they agree, that does not matter, and what
is left of padding is the network's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float

from eval.pool import Pool
from eval.positions import X_RANGE, Y_RANGE
from eval.stills import Fill, Still
from videopolicy.camera import Camera
from videopolicy.data.files import make_folder, write_json
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import selected
from videopolicy.errors import BadInput, at_least_one, choices
from videopolicy.heads.para import ParaHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.types import ActionChunk, Observation

BATCH = 8
SCALE = 448  # image shifts are given in pixels of a picture that wide
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
NEAR, FAR = 0.04, 0.05  # [m] from the nearest training position: on the trained side, on the untrained side
SIDES = ("trained", "untrained")


@dataclass(frozen=True)
class EquivarianceConfig:
    """What is shifted, and how far."""

    shifts: tuple[int, ...] = (4, 8, 16, 32, 64)  # of pictures, right, left, down and up [pixels of 448]
    fills: tuple[Fill, ...] = get_args(Fill)
    distances: tuple[float, ...] = (0.02, 0.05, 0.10)  # of bowl and plate, in random directions [m]
    n_scenes: int = 16  # whose pictures are shifted; likewise for every distance and side of the table

    def check(self) -> None:
        for name in ("shifts", "fills", "distances"):
            if not getattr(self, name):
                raise BadInput(f"equivariance.{name} is empty; allowed: one or more")
        for fill in self.fills:
            if fill not in get_args(Fill):
                raise choices("equivariance.fills", fill, get_args(Fill))
        if not 0 < min(self.shifts) <= max(self.shifts) < SCALE // 2:
            raise BadInput(
                f"equivariance.shifts is {list(self.shifts)}; allowed: 1 to {SCALE // 2 - 1} pixels of {SCALE}"
            )
        if not all(0 < d <= 0.3 for d in self.distances):
            raise BadInput(f"equivariance.distances is {list(self.distances)}; allowed: above 0 to 0.3 m")
        at_least_one(self, "n_scenes", of="equivariance.")


def measure(runs: dict[str, str], cfg: EquivarianceConfig, output: Path, seed: int) -> dict:
    """Rows for every policy, written to `output/equivariance/` and printed."""
    cfg.check()
    if not runs:
        raise BadInput("policies is empty; name at least one as {name: run folder}")
    opened = {name: load(Path(run)) for name, run in runs.items()}
    sets = {name: (config["data"]["root"], config["data"]["select"]) for name, (_, config) in opened.items()}
    if len(set(sets.values())) > 1:
        raise BadInput(f"policies were trained on different sets: {sets}; compare like with like")
    ((root, select),) = set(sets.values())
    data = Dataset(Path(root))
    extras = data.extras()
    if any("bowl_xy" not in extra for extra in extras) or not extras:
        raise BadInput(
            f"{root}/meta/para_episodes.jsonl does not say where the bowl stood (bowl_xy), which is to be moved"
        )
    trained = np.array([extras[e]["bowl_xy"] for e in selected(select, extras, len(data), data.root)])
    pairs = scene_pairs(trained, cfg, seed)
    folder = output / "equivariance"
    make_folder(folder)

    # Draw every scene once, with as much around it as the largest shift brings into view.
    size = data.camera.size[0]
    shifts = {round(k * size / SCALE): k for k in sorted(cfg.shifts)}
    shifts.pop(0, None)
    if not shifts:
        raise BadInput(f"equivariance.shifts {list(cfg.shifts)} are all below half a pixel of {root}'s {size}")
    places = [xy for moves in pairs.values() for pair in moves for xy in pair]
    job = {"kind": "still", "image_size": size, "margin": max(shifts), "period": 1 / data.fps}
    with Pool(1) as pool:
        stills = [still for _, still in sorted(pool.run([{**job, "bowl_xy": xy} for xy in places]), key=lambda r: r[0])]
    taken = iter(stills)
    moved = {key: [(next(taken), next(taken)) for _ in moves] for key, moves in pairs.items()}

    # Ask every policy.
    images, scenes = [], []
    still_ones = [a for a, _ in moved["trained", min(cfg.distances)]]
    for name, (policy, _) in opened.items():
        images += [{"policy": name, **r} for r in image_shifts(policy, still_ones, sorted(shifts), cfg.fills)]
        scenes += [{"policy": name, **r} for r in scene_shifts(policy, moved)]
    summary = {"policies": runs, "data": root, "select": select, "image_shifts": images, "scene_shifts": scenes}
    text = table(summary)
    write_json(folder / "summary.json", summary)
    (folder / "table.txt").write_text(text + "\n")
    print(text)
    return summary


Moves = dict[tuple[str, float], list[tuple[np.ndarray, np.ndarray]]]


def scene_pairs(trained: Float[np.ndarray, "n 2"], cfg: EquivarianceConfig, seed: int) -> Moves:
    """Bowl positions before and after a move, both on the same side, by side and distance; none where there is no room.

    The trained side is what lies within 4 cm of a training position, the untrained one what is more than 5 cm away.
    """
    found: Moves = {}
    low, high = np.array([X_RANGE, Y_RANGE]).T

    def on(side: str, xy: np.ndarray) -> bool:
        gap = np.linalg.norm(trained - xy, axis=-1).min()
        inside = bool(((xy >= low) & (xy <= high)).all())
        return inside and bool(gap <= NEAR if side == "trained" else gap > FAR)

    for side in SIDES:
        for distance in cfg.distances:
            rng = np.random.default_rng([seed, *side.encode(), round(1e6 * distance)])
            pairs: list[tuple[np.ndarray, np.ndarray]] = []
            for _ in range(500 * cfg.n_scenes):
                start, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
                end = start + distance * np.array([np.cos(angle), np.sin(angle)])
                if len(pairs) < cfg.n_scenes and on(side, start) and on(side, end):
                    pairs.append((start, end))
            if pairs:
                found[side, distance] = pairs
    if ("trained", min(cfg.distances)) not in found:
        raise BadInput(f"no position on the table is within {NEAR} m of one of the {len(trained)} training positions")
    return found


def image_shifts(
    policy: FeaturePolicy, stills: list[Still], shifts: Sequence[int], fills: Sequence[Fill]
) -> list[dict]:
    """How far predicted pixels follow pictures shifted by `shifts` [pixels of the stills], one row a shift and fill.

    Waypoints count that are predicted inside the unshifted picture and would be inside the shifted one. Lengths are in
    pixels of the policy's pictures.
    """
    camera = stills[0].camera.resized(policy.image_size)
    scale = np.array(policy.image_size) / np.array(stills[0].camera.size)
    cameras = [s.camera for s in stills]
    before = pixels(policy, [s.seen() for s in stills], cameras)
    rows = []
    for fill in fills:
        for shift in shifts:
            parts = []
            for u, v in DIRECTIONS:
                by = (shift * u, shift * v)
                after = pixels(policy, [s.seen(by, fill) for s in stills], cameras)
                true = np.broadcast_to(scale * by, before.shape)
                counts = camera.contains(before) & camera.contains(before + true)
                parts.append((after - before, true, counts))
            predicted, true, counts = (np.concatenate(x) for x in zip(*parts, strict=True))
            rows.append({"fill": fill, "shift_px": float(shift * scale[0]), "n_pictures": len(stills)})
            rows[-1] |= followed(predicted, true, counts, "px")
    return rows


def scene_shifts(policy: FeaturePolicy, moved: dict[tuple[str, float], list[tuple[Still, Still]]]) -> list[dict]:
    """How far the predicted grasp follows bowl and plate, one row a side and distance; lengths in mm and pixels.

    The waypoint is the expert's grasp, or the chunk's last one where the expert is not there yet.
    """
    rows = []
    for (side, distance), pairs in moved.items():
        predicted, true = [], []
        for stills in zip(*pairs, strict=True):
            chunks = act(policy, [s.seen() for s in stills])
            step = [min(s.grasp, policy.head.n_steps - 1) for s in stills]
            predicted.append(np.stack([c.position[k] for c, k in zip(chunks, step, strict=True)]))
            true.append(np.stack([s.plan[k] for s, k in zip(stills, step, strict=True)]))
        every = np.ones(len(pairs), bool)
        row = {"side": side, "distance_mm": 1000 * distance}
        row |= followed(1000 * (predicted[1] - predicted[0]), 1000 * (true[1] - true[0]), every, "mm")
        camera = pairs[0][0].camera.resized(policy.image_size)
        there, target = ([camera.project(x) for x in both] for both in (predicted, true))
        row |= {"residual_px": float(np.linalg.norm((there[1] - there[0]) - (target[1] - target[0]), axis=-1).mean())}
        row |= {"error_mm": float(1000 * np.linalg.norm(np.stack(predicted) - np.stack(true), axis=-1).mean())}
        rows.append(row)
    return rows


def followed(
    predicted: Float[np.ndarray, "*batch axis"],
    true: Float[np.ndarray, "*batch axis"],
    counts: Bool[np.ndarray, "*batch"],
    unit: str,
) -> dict:
    """Predicted displacement along the true one as a share of it, and the distance between the two; means, medians."""
    predicted, true = predicted[counts], true[counts]
    share = (predicted * true).sum(-1) / (true * true).sum(-1)
    residual = np.linalg.norm(predicted - true, axis=-1)
    numbers = {"share": share, f"residual_{unit}": residual}
    return {"n": len(share)} | {
        name: float(f(x)) if len(x) else None
        for key, x in numbers.items()
        for name, f in ((key, np.mean), (f"{key}_median", np.median))
    }


def pixels(
    policy: FeaturePolicy, observations: list[Observation], cameras: list[Camera]
) -> Float[np.ndarray, "picture step 2"]:
    """Where waypoints are predicted: a pixel-aligned head's pixels, or positions seen by the cameras that did not move.

    Other heads' positions are what is executed, also where a head predicts pixels beside them (`tracks`).
    """
    size, aligned = policy.image_size, isinstance(policy.head, ParaHead)
    return np.stack(
        [
            c.pixel if aligned and c.pixel is not None else camera.resized(size).project(c.position)
            for c, camera in zip(act(policy, observations), cameras, strict=True)
        ]
    )


def act(policy: FeaturePolicy, observations: Sequence[Observation]) -> list[ActionChunk]:
    return [c for i in range(0, len(observations), BATCH) for c in policy.act_batch(list(observations[i : i + BATCH]))]


def table(summary: dict) -> str:
    """The results as text."""
    name = max(len("policy"), *(len(p) for p in summary["policies"]))
    shares = f"{'n':>6}{'share':>8}{'median':>8}"
    lines = [f"{'policy':<{name}} {'fill':<7}{'shift [px]':>11}{shares}{'residual [px]':>15}{'median':>8}"]
    for r in summary["image_shifts"]:
        numbers = "".join(_number(r[k], w) for k, w in (("share", 8), ("share_median", 8)))
        numbers += "".join(_number(r[k], w) for k, w in (("residual_px", 15), ("residual_px_median", 8)))
        lines.append(f"{r['policy']:<{name}} {r['fill']:<7}{r['shift_px']:>11.1f}{r['n']:>6}{numbers}")
    lines.append(
        f"{'policy':<{name}} {'side':<10}{'shift [mm]':>11}{shares}{'residual [mm]':>15}{'median':>8}{'error [mm]':>12}"
    )
    for r in summary["scene_shifts"]:
        keys = (("share", 8), ("share_median", 8), ("residual_mm", 15), ("residual_mm_median", 8), ("error_mm", 12))
        numbers = "".join(_number(r[k], w) for k, w in keys)
        lines.append(f"{r['policy']:<{name}} {r['side']:<10}{r['distance_mm']:>11.0f}{r['n']:>6}{numbers}")
    return "\n".join(lines)


def _number(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.2f'):>{width}}"
