"""Collect demonstrations by the scripted expert in LIBERO; the same command resumes.

python -m eval.collect --config_path configs/demo/collect.yaml
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.pool import Pool
from eval.positions import episode_seed, training_cells
from videopolicy.config import dump, launch
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.data.lerobot import Episode, Writer
from videopolicy.errors import BadInput
from videopolicy.progress import Progress

TASK = "pick up the black bowl and place it on the plate"


@dataclass(frozen=True)
class Config:
    """Which demonstrations to collect, and where to."""

    output: Path = Path("data/left_half")
    n_positions: int = 96  # of the left half's 128 grid cells
    image_size: int = 224  # [pixels]
    fps: int = 4  # frames and waypoints per second
    start_jitter: float = 0.01  # the arm starts this far from its start pose, at most [m]
    n_workers: int = 2
    n_tries: int = 4  # a cell where the expert fails is tried again, moved by at most 4 mm
    seed: int = 0


def main(cfg: Config) -> dict:
    print(dump(cfg))
    if cfg.fps not in (1, 2, 4, 5, 10, 20):
        raise BadInput(f"fps is {cfg.fps}; allowed: 1, 2, 4, 5, 10, 20 (divisors of the 20 Hz control rate)")
    for name in ("n_workers", "n_tries"):
        if getattr(cfg, name) < 1:
            raise BadInput(f"{name} is {getattr(cfg, name)}; allowed: at least 1")
    cells = training_cells(cfg.n_positions, cfg.seed)
    make_folder(cfg.output)
    started = time.perf_counter()
    with lock_folder(cfg.output), Pool(cfg.n_workers) as pool:
        # Open the dataset with the running simulator's camera, after its self-test.
        (_, scene), *_ = pool.run([{"kind": "describe", "image_size": cfg.image_size}])
        print(f"camera self-test passed: markers within {scene['errors'].max():.2f} px")
        writer = Writer(cfg.output, cfg.fps, "agentview", scene["camera"], TASK)
        writer.write_markers(scene["markers"], *scene["images"])
        n_before = writer.n_episodes
        kept = _kept_cells(writer, cells)
        if n_before:
            print(f"{cfg.output} already holds {n_before} of {len(cells)} episodes")

        # Run the expert at every cell after the last one kept; episodes are written in the order of the cells.
        todo = list(range(max(kept, default=-1) + 1, len(cells)))
        n_failed, ready, turn = 0, {}, iter(todo)
        waiting_for = next(turn, None)
        progress = Progress("collect", len(cells), len(cells) - len(todo))
        for number, result in pool.run([_job(cfg, cells[i], i) for i in todo]):
            ready[todo[number]] = result
            while waiting_for in ready:
                result = ready.pop(waiting_for)
                n_failed += result["attempts"] - result["placed"]
                if result["placed"]:
                    extra = {"cell": waiting_for, "bowl_xy": result["bowl_xy"], "attempts": result["attempts"]}
                    extra |= {"placed": True, "control_steps": result["control_steps"]}
                    writer.append(Episode(result["frames"], result["state"], result["action"], extra))
                progress.update(waiting_for + 1, f"{n_failed} attempts failed")
                waiting_for = next(turn, None)
    progress.close()
    writer.finish()
    seconds = time.perf_counter() - started
    extras = writer.extras()
    n_new, first = len(extras) - n_before, sum(e["attempts"] == 1 for e in extras)
    print(
        f"kept {len(extras)} episodes, {writer.info['total_frames']} frames; {n_failed} attempts failed and were"
        f" not kept; the expert placed {first}/{len(cells)} positions at the first try;"
        f" {n_new} new episodes in {seconds:.0f} s ({60 * n_new / seconds:.1f} a minute)"
    )
    for i in sorted(set(range(len(cells))) - {e["cell"] for e in extras}):
        print(f"no episode at bowl position {cells[i].round(3).tolist()}: the expert failed {cfg.n_tries} times")
    return {"episodes": len(extras), "failures": n_failed, "first_try": first, "seconds": seconds}


def _kept_cells(writer: Writer, cells: np.ndarray) -> list[int]:
    """Cells that have an episode; `BadInput` where the folder was collected with another seed or more positions."""
    for extra in writer.extras():
        i = extra["cell"]
        if i >= len(cells) or np.abs(cells[i] - extra["bowl_xy"]).max() > 0.005:
            raise BadInput(
                f"{writer.root} holds an episode at {extra['bowl_xy']}, which is not position {i} of {len(cells)} of"
                " this configuration; name another output"
            )
    return [extra["cell"] for extra in writer.extras()]


def _job(cfg: Config, cell: np.ndarray, i: int) -> dict:
    """The job for cell i: start poses, and bowl positions that move by at most 4 mm from the second attempt on."""
    rng = np.random.default_rng(episode_seed("collect", cfg.seed, i))
    jitter = rng.uniform(-0.004, 0.004, (cfg.n_tries, 2))
    jitter[0] = 0
    start = rng.uniform(-cfg.start_jitter, cfg.start_jitter, (cfg.n_tries, 3))
    attempts = list(zip(cell + jitter, start, strict=True))
    return {"kind": "collect", "image_size": cfg.image_size, "attempts": attempts, "fps": cfg.fps}


if __name__ == "__main__":
    launch(main, Config)
