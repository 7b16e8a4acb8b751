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
        if n_before:
            print(f"{cfg.output} already holds {n_before} of {len(cells)} episodes")

        # Run the expert at every cell that is missing; episodes are written in the order of the cells.
        todo = list(range(n_before, len(cells)))
        attempts = dict.fromkeys(todo, 0)
        failures, finished = 0, {}
        progress = Progress("collect", len(cells), n_before)
        while todo:
            jobs = [_job(cfg, cells[i], i, attempts[i]) for i in todo]
            retry = []
            for number, result in pool.run(jobs):
                i, job = todo[number], jobs[number]
                attempts[i] += 1
                if result["placed"]:
                    extra = {"cell": i, "bowl_xy": job["bowl_xy"].tolist(), "attempts": attempts[i]}
                    extra |= {"placed": True, "control_steps": result["control_steps"]}
                    finished[i] = Episode(result["frames"], result["state"], result["action"], extra)
                else:
                    failures += 1
                    retry.append(i)
                    if attempts[i] == cfg.n_tries:
                        raise BadInput(f"the expert failed {cfg.n_tries} times at bowl position {cells[i].tolist()}")
                while writer.n_episodes in finished:
                    writer.append(finished.pop(writer.n_episodes))
                    progress.update(writer.n_episodes)
            todo = retry
    progress.close()
    writer.finish()
    seconds = time.perf_counter() - started
    n_new = writer.n_episodes - n_before
    first = sum(e["attempts"] == 1 for e in writer.extras())
    print(
        f"kept {writer.n_episodes} episodes, {writer.info['total_frames']} frames; {failures} attempts failed and were"
        f" not kept; the expert placed {first}/{len(cells)} positions at the first try;"
        f" {n_new} new episodes in {seconds:.0f} s ({60 * n_new / seconds:.1f} a minute)"
    )
    return {"episodes": writer.n_episodes, "failures": failures, "first_try": first, "seconds": seconds}


def _job(cfg: Config, cell: np.ndarray, i: int, attempt: int) -> dict:
    """The job for cell i; a repeated attempt moves the bowl by at most 4 mm."""
    rng = np.random.default_rng(episode_seed("collect", cfg.seed, i, attempt))
    jitter = rng.uniform(-0.004, 0.004, 2) * (attempt > 0)
    start = rng.uniform(-cfg.start_jitter, cfg.start_jitter, 3)
    return {
        "kind": "collect",
        "image_size": cfg.image_size,
        "bowl_xy": cell + jitter,
        "start_jitter": start,
        "fps": cfg.fps,
    }


if __name__ == "__main__":
    launch(main, Config)
