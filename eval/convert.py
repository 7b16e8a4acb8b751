"""Convert LIBERO's demonstration files (HDF5) into a dataset by drawing their states again; the same command resumes.

python -m eval.convert --input pick_up_the_butter_and_place_it_in_the_basket_demo.hdf5 --output data/butter
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.card import write_card
from eval.hdf5 import DemonstrationFile, Recording, open_demonstrations
from eval.pool import Pool
from videopolicy.config import dump, launch
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.data.recording import Episode, Writer
from videopolicy.errors import BadInput, at_least_one
from videopolicy.progress import Progress

RATE = 20  # states a second


@dataclass(frozen=True)
class Config:
    """What to convert, and where to."""

    input: Path = Path("demo.hdf5")
    output: Path = Path("data/converted")
    n_demos: int | None = None  # the first ones; null: all
    image_size: int = 224  # [pixels]
    fps: int = 4  # frames and waypoints a second
    n_workers: int = 2


def main(cfg: Config) -> dict:
    print(dump(cfg))
    if cfg.fps not in (1, 2, 4, 5, 10, 20):
        raise BadInput(f"fps is {cfg.fps}; allowed: 1, 2, 4, 5, 10, 20 (divisors of the {RATE} Hz of the recording)")
    at_least_one(cfg, "n_workers")
    file = open_demonstrations(cfg.input)
    n_demos = len(file.names) if cfg.n_demos is None else cfg.n_demos
    if not 1 <= n_demos <= len(file.names):
        raise BadInput(f"n_demos is {n_demos}; allowed: 1 to {len(file.names)}, or null")
    recordings = [file.read(name) for name in file.names[:n_demos]]
    print(f"{len(file.names)} demonstrations of {file.task}")
    with Pool(cfg.n_workers) as pool:
        # Test the file's states and the camera with the running simulator before anything is written.
        common = {"kind": "replay", "task": file.task, "image_size": cfg.image_size}
        ((_, scene),) = pool.run([{**common, "n_values": file.n_values}])
        print(f"camera self-test passed: markers within {scene['errors'].max():.2f} px")
        make_folder(cfg.output)
        with lock_folder(cfg.output):
            writer = Writer(cfg.output, cfg.fps, "agentview", scene["camera"], file.language, rotations=True)
            n_before = _check_kept(writer, file)
            writer.write_markers(scene["markers"], *scene["images"])
            todo = [(r, sampled(len(r.states), cfg.fps)) for r in recordings[n_before:]]
            jobs = [{**common, "states": r.states[chosen], "bodies": r.bodies} for r, chosen in todo]
            progress = Progress("convert", n_demos, n_before)
            for number, drawn in pool.run_in_order(jobs):
                made = _episode(file, *todo[number], drawn)
                writer.append(replace(made, extra=made.extra | pool.restarts(number)))
                progress.update(n_before + number + 1)
            progress.close()
            writer.finish()
            write_card(cfg.output, float(scene["errors"].max()), f"LIBERO's {file.path.name}")
    placed = sum(e["placed"] for e in writer.extras())
    print(f"{writer.n_episodes} episodes, {writer.info['total_frames']} frames; {placed} end in their task's goal")
    return {"episodes": writer.n_episodes, "new": len(jobs), "placed": placed}


def sampled(n_states: int, fps: int) -> np.ndarray:
    """The states that become frames: `fps` a second from the first, and the last."""
    return np.unique([*range(0, n_states, RATE // fps), n_states - 1])


def _episode(file: DemonstrationFile, recording: Recording, chosen: np.ndarray, drawn: dict) -> Episode:
    """The arm's next position is the command, and the gripper command that of the last action before it."""
    position = np.concatenate([drawn["state"][1:, :3], drawn["state"][-1:, :3]])
    before = np.concatenate([chosen[1:] - 1, chosen[-1:]])
    opening = (recording.actions[before, 6] < 0).astype(float)
    extra = {"task": file.task, "source": file.path.name, "demo": recording.name, "placed": drawn["placed"]}
    action = np.concatenate([position, opening[:, None]], 1)
    return Episode(drawn["frames"], drawn["state"], action, extra, drawn["rotation"])


def _check_kept(writer: Writer, file: DemonstrationFile) -> int:
    """How many demonstrations the dataset already has; `BadInput` where they are others."""
    kept = writer.extras()
    for extra, name in zip(kept, [*file.names, *[None] * len(kept)], strict=False):
        if (extra.get("task"), extra.get("source"), extra.get("demo")) != (file.task, file.path.name, name):
            raise BadInput(
                f"{writer.root} holds {extra.get('demo')} of {extra.get('source')}, not {name} of {file.path.name};"
                " name another output"
            )
    return len(kept)


if __name__ == "__main__":
    launch(main, Config)
