"""Demonstrations of the task by the scripted expert, on cells of the position grid's left half."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.pool import Pool
from eval.positions import episode_seed, training_cells
from videopolicy.data.lerobot import Episode, Writer
from videopolicy.errors import BadInput
from videopolicy.progress import Progress

TASK = "pick up the black bowl and place it on the plate"


@dataclass(frozen=True)
class GridConfig:
    """Which demonstrations."""

    n_positions: int = 96  # of the left half's 128 grid cells
    start_jitter: float = 0.01  # the arm starts this far from its start pose, at most [m]
    n_tries: int = 4  # a cell where the expert fails is tried again, moved by at most 4 mm

    def check(self) -> None:
        if self.n_tries < 1:
            raise BadInput(f"grid.n_tries is {self.n_tries}; allowed: at least 1")
        training_cells(self.n_positions, 0)


def collect_grid(cfg: GridConfig, pool: Pool, output: Path, image_size: int, fps: int, seed: int) -> dict:
    """Run the expert at every cell that has no episode yet; episodes are written in the order of the cells."""
    cells = training_cells(cfg.n_positions, seed)
    # Open the dataset with the running simulator's camera, after its self-test.
    (_, scene), *_ = pool.run([{"kind": "describe", "image_size": image_size}])
    print(f"camera self-test passed: markers within {scene['errors'].max():.2f} px")
    writer = Writer(output, fps, "agentview", scene["camera"], TASK)
    writer.write_markers(scene["markers"], *scene["images"])
    n_before = writer.n_episodes
    kept = _kept_cells(writer, cells)
    if n_before:
        print(f"{output} already holds {n_before} of {len(cells)} episodes")

    # Every cell after the last one kept.
    todo = list(range(max(kept, default=-1) + 1, len(cells)))
    jobs = [_job(cfg, cells[i], i, image_size, fps, seed) for i in todo]
    n_failed = 0
    progress = Progress("collect", len(cells), len(cells) - len(todo))
    for number, result in pool.run_in_order(jobs):
        cell = todo[number]
        n_failed += result["attempts"] - result["placed"]
        if result["placed"]:
            extra = {"cell": cell, "bowl_xy": result["bowl_xy"], "attempts": result["attempts"]}
            extra |= {"placed": True, "control_steps": result["control_steps"]}
            writer.append(Episode(result["frames"], result["state"], result["action"], extra))
        progress.update(cell + 1, f"{n_failed} attempts failed")
    progress.close()
    writer.finish()
    extras = writer.extras()
    first = sum(e["attempts"] == 1 for e in extras)
    print(
        f"kept {len(extras)} episodes, {writer.info['total_frames']} frames; {n_failed} attempts failed and were"
        f" not kept; the expert placed {first}/{len(cells)} positions at the first try"
    )
    for i in sorted(set(range(len(cells))) - {e["cell"] for e in extras}):
        print(f"no episode at bowl position {cells[i].round(3).tolist()}: the expert failed {cfg.n_tries} times")
    return {"episodes": len(extras), "new": len(extras) - n_before, "failures": n_failed, "first_try": first}


def _kept_cells(writer: Writer, cells: np.ndarray) -> list[int]:
    """Cells that have an episode; `BadInput` where the folder was collected with another seed or more positions."""
    for extra in writer.extras():
        i = extra.get("cell", len(cells))
        if i >= len(cells) or np.abs(cells[i] - extra["bowl_xy"]).max() > 0.005:
            raise BadInput(
                f"{writer.root} holds an episode at {extra.get('bowl_xy')}, which is not position {i} of {len(cells)}"
                " of this configuration; name another output"
            )
    return [extra["cell"] for extra in writer.extras()]


def _job(cfg: GridConfig, cell: np.ndarray, i: int, image_size: int, fps: int, seed: int) -> dict:
    """The job for cell i: start poses, and bowl positions that move by at most 4 mm from the second attempt on."""
    rng = np.random.default_rng(episode_seed("collect", seed, i))
    jitter = rng.uniform(-0.004, 0.004, (cfg.n_tries, 2))
    jitter[0] = 0
    start = rng.uniform(-cfg.start_jitter, cfg.start_jitter, (cfg.n_tries, 3))
    attempts = list(zip(cell + jitter, start, strict=True))
    return {"kind": "collect", "image_size": image_size, "attempts": attempts, "fps": fps}
