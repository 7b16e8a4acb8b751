"""Roll policies out in LIBERO, closed loop; the same command resumes at the first missing episode.

python -m eval.rollout --config_path configs/demo/rollout.yaml
"""

from functools import partial
from typing import Any

import numpy as np
import torch

from eval.contestant import Contestant, open_contestants
from eval.episodes import FILE, finished, video_file
from eval.lifting import FILE as SENSITIVITY
from eval.lifting import head_sensitivity, lines
from eval.pool import Pool
from eval.protocol import Config, check
from eval.suites import TRAINED_ON, Trial, trials
from eval.tasks import Task, TaskTrial, find_tasks, task_trials
from videopolicy.config import dump, launch
from videopolicy.data.files import append_jsonl, lock_folder, make_folder, replace, write_json
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import Select, selected
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput
from videopolicy.heads.para import ParaHead
from videopolicy.names import label
from videopolicy.progress import Progress
from videopolicy.provenance import code_digest, commit
from videopolicy.rates import rates


def main(cfg: Config) -> list[dict]:
    print(dump(cfg))
    check(cfg)
    torch.set_num_threads(cfg.n_threads)

    # Load what is to be compared, and the dataset that says at what size and rate it acts.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    contestants, data_root, select = open_contestants(cfg, device)
    head = next((c.policy.head for c in contestants if isinstance(c.policy.head, ParaHead)), None)
    dataset = Dataset(data_root)
    image_size = dataset.camera.size[0]
    moves = {} if head is None else head_sensitivity(head, dataset)
    task = None if cfg.suite is None else find_tasks(cfg.suite, [cfg.task])[0]
    jobs = episode_jobs(cfg, dataset, select, task)

    # Look at what an earlier run of the same command has finished, and run what is missing; no other may, meanwhile.
    make_folder(cfg.output / "videos")
    about = {"dataset": dataset.digest, "code": code_digest("eval.rollout", "eval.worker")}
    seeds = {key: trial.seed for key, trial in jobs.items()}
    with lock_folder(cfg.output):
        records = finished(cfg.output, about, {c.name: c.digest for c in contestants}, seeds)
        replace(cfg.output / "config.yaml", lambda path: path.write_text(dump(cfg)))
        first = {True: cfg.n_oracle, False: 0 if cfg.n_episodes == 0 else len(jobs)}
        wanted = [(c, {k: j for k, j in jobs.items() if k[1] < first[c.oracle]}) for c in contestants]
        if moves:
            write_json(cfg.output / SENSITIVITY, moves)
        if any((c.name, *key) not in records for c, its in wanted for key in its):
            run_all(cfg, wanted, records, dataset.fps, image_size, about, task)
        else:
            print("all of these episodes are there")
    for name in (c.name for c in contestants if task is not None):
        if not (outcomes := [r["outcome"] for r in records.values() if r["policy"] == name]):
            continue
        found = rates(outcomes)
        low, high = found["wilson95"]
        placed = f"{found['place']} % of {found['n']} placed (Wilson 95 % {low} to {high})"
        print(f"{label(name)}: {placed}, {found['grasp']} % lifted and not placed")
    if task is not None and moves:
        print(lines(moves))
    return list(records.values())


def run_all(
    cfg: Config,
    wanted: list[tuple[Contestant, dict[tuple[str, int], Trial | TaskTrial]]],
    records: dict[tuple[str, str, int], dict],
    fps: int,
    image_size: int,
    about: dict[str, str],
    task: Task | None,
) -> None:
    """Start simulators, test their camera, and run what is missing of every contestant's episodes."""
    n_missing = max(sum((c.name, *key) not in records for key in its) for c, its in wanted)
    with Pool(min(cfg.n_workers, n_missing)) as pool:
        look = {"kind": "describe", "image_size": image_size, "task": task.name if task else None}
        (_, scene), *_ = pool.run([look])
        print(f"camera self-test passed: markers within {scene['errors'].max():.2f} px")
        about = about | {"commit": commit()}
        for contestant, its in wanted:
            run_missing(cfg, pool, contestant, its, records, fps, image_size, about)


def episode_jobs(
    cfg: Config, dataset: Dataset, select: Select, task: Task | None
) -> dict[tuple[str, int], Trial | TaskTrial]:
    """One trial per (split, episode): positions and jitters are the same for every policy."""
    extras = dataset.extras()
    n = cfg.n_episodes or None
    if task is not None:
        return {("held_out", i): t for i, t in enumerate(task_trials(task, extras, n, cfg.seed))}
    if any("bowl_xy" not in extra for extra in extras):
        raise BadInput(f"{dataset.root} has no bowl positions to test between; allowed: suite and task of LIBERO")
    trained = np.array([extras[e]["bowl_xy"] for e in selected(select, extras, len(dataset), dataset.root)])
    found: dict[tuple[str, int], Trial | TaskTrial] = {}
    for split in cfg.splits:
        if TRAINED_ON.get(split, select) != select:
            raise BadInput(
                f"splits has {split!r}, which tests policies trained on data.select {TRAINED_ON[split]!r}; these were"
                f" trained on {select!r}"
            )
        its = trials(split, n, cfg.seed, trained, cfg.shift)
        note = ", those whose bowl stands clear of the plate, which does not move" if cfg.shift == "bowl" else ""
        print(f"{split}: {len(its)} episodes for each policy{note}")
        found |= {(split, i): t for i, t in enumerate(its)}
    return found


def run_missing(
    cfg: Config,
    pool: Pool,
    contestant: Contestant,
    jobs: dict[tuple[str, int], Trial | TaskTrial],
    records: dict[tuple[str, str, int], dict],
    fps: int,
    image_size: int,
    about: dict[str, str],
) -> None:
    """The missing episodes of one policy, each a line of episodes.jsonl and a small video; `records` grows.

    `about` is what every line says of what it was measured with.
    """
    name = contestant.name
    missing = [key for key in jobs if (name, *key) not in records]
    progress = Progress(f"rollout {name}", len(jobs), len(jobs) - len(missing))
    n_execute, most = contestant.n_execute, cfg.max_chunks
    protocol: dict[str, Any] = {"executor": cfg.executor, "step_cap": cfg.step_cap, "n_execute": n_execute}
    protocol |= {"max_chunks": cfg.step_cap if most is None else -(-most * cfg.n_execute // n_execute)}
    protocol |= {"kind": "episode", "image_size": image_size, "period": 1 / fps}
    protocol |= {"oracle": contestant.oracle, "n_steps": contestant.policy.head.n_steps}
    protocol |= {"ensemble": contestant.ensemble}
    for number, result in pool.run([{**jobs[key].job(), **protocol} for key in missing], contestant.answer):
        split, i = missing[number]
        trial = jobs[split, i]
        episode = {"policy": name, "split": split, "episode": i}
        replace(video_file(cfg.output, episode), partial(write_video, frames=result.pop("frames"), fps=fps))
        record = {
            **episode,
            **trial.record(),
            "executor": cfg.executor,
            "step_cap": cfg.step_cap,
            "n_execute": n_execute,
            "ensemble": contestant.ensemble,
            **({} if cfg.shift == "both" else {"shift": cfg.shift}),
            "digest": contestant.digest,
            **about,
            "restarts": pool.deaths[number],  # of the simulator, after each of which the episode began again
            **result,
        }
        append_jsonl(cfg.output / FILE, record)
        records[name, split, i] = record
        outcomes = [r["outcome"] for r in records.values() if r["policy"] == name]
        progress.update(len(outcomes), f"{outcomes.count('place')}/{len(outcomes)} placed")
    progress.close()


if __name__ == "__main__":
    launch(main, Config)
