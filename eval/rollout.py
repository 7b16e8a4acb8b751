"""Roll policies out in LIBERO, closed loop; the same command resumes at the first missing episode.

python -m eval.rollout --config_path configs/demo/rollout.yaml
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from eval.episodes import FILE, finished
from eval.lineage import check_lineage
from eval.pool import Pool
from eval.positions import Shift
from eval.suites import SPLITS, TRAINED_ON, Split, Trial, trials
from eval.tasks import Task, TaskTrial, find_tasks, task_trials
from videopolicy.backbones.unet import Compile
from videopolicy.camera import Camera
from videopolicy.config import dump, launch
from videopolicy.data.files import append_jsonl, lock_folder, make_folder
from videopolicy.data.files import replace as replace_file
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import Select, selected
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput, choices
from videopolicy.heads.act import ActHead
from videopolicy.heads.head import ActionHead, Targets
from videopolicy.heads.para import ParaHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.progress import Progress
from videopolicy.provenance import code_digest, commit
from videopolicy.rates import rates
from videopolicy.training import checkpoint
from videopolicy.types import ActionChunk

EXECUTORS = ("teleport", "osc")


@dataclass(frozen=True)
class Config:
    """Which policies to roll out, where and how often."""

    output: Path = Path("runs/rollout")
    policies: dict[str, str] = field(default_factory=dict)  # name in the report -> stage-two run
    oracle: bool = True  # also execute ground-truth waypoints through the pixel-aligned head's encoding
    n_episodes: int | None = None  # per policy and split; null: all that the axis has, 40 of seen and unseen
    n_oracle: int = 10  # the same of the oracle, which hardly varies
    splits: tuple[Split, ...] = ("seen", "unseen")  # the demo's halves, axes of the suite, or validation for tuning
    # One of LIBERO's pick-and-place tasks instead, by its number from 0; from states that no demonstration began in.
    suite: str | None = None
    task: int | None = None
    shift: Shift = "both"  # what moves with the position: bowl and plate, or the bowl alone
    executor: str = "teleport"
    n_execute: int = 4  # waypoints of each chunk that are executed
    step_cap: int = 600  # control steps of an episode
    max_chunks: int | None = None  # of an episode, to end hopeless ones early; null: the step cap alone ends them
    # Whose overlapping chunks are averaged: of the head whose paper does it (Zhao et al. 2023), everybody's, nobody's.
    ensemble: Literal["act", "all", "none"] = "act"
    ensemble_m: float = 0.01  # the i-th oldest of them has weight exp(-m i)
    n_workers: int = 2
    n_threads: int = 1  # of the policy's process
    compile: Compile = "none"  # a video model's blocks at their first use, for faster steps on a GPU
    seed: int = 1000


@dataclass(frozen=True)
class Contestant:
    """One policy of an evaluation; the oracle takes its waypoints from the expert and only its head from a policy."""

    name: str
    policy: FeaturePolicy
    digest: str  # of weights and protocol: episodes of different ones are never mixed
    oracle: bool = False
    ensemble: float | None = None  # m; None: each chunk by itself

    def answer(self, requests: list[tuple[str, Any]]) -> list[ActionChunk]:
        """Chunks for the simulators that are waiting, in one forward."""
        if self.oracle and isinstance(self.policy.head, ParaHead):
            return [through_head(self.policy.head, seen.camera, truth) for _, (seen, truth) in requests]
        return self.policy.act_batch([observation for _, observation in requests])


def main(cfg: Config) -> list[dict]:
    print(dump(cfg))
    _check(cfg)
    torch.set_num_threads(cfg.n_threads)

    # Load what is to be compared, and the dataset that says at what size and rate it acts.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    contestants, data_root = [], Path()
    select: Select = "all"
    for name, run in cfg.policies.items():
        policy, config = load(Path(run), device, cfg.compile)
        m = ensemble_of(cfg, policy.head)
        digest = _digest(cfg, checkpoint.weights_digest(checkpoint.find(Path(run))), policy.precision, m)
        contestants.append(Contestant(name, policy, digest, ensemble=m))
        if data_root != Path() and (data_root, select) != (Path(config["data"]["root"]), config["data"]["select"]):
            raise BadInput(
                f"{name} was trained on {config['data']['root']} ({config['data']['select']}), the others on"
                f" {data_root} ({select}); compare like with like"
            )
        data_root, select = Path(config["data"]["root"]), config["data"]["select"]
        check_lineage(name, Path(run), cfg.splits if cfg.suite is None else ())
        if cfg.n_execute > policy.head.n_steps:
            raise BadInput(
                f"n_execute is {cfg.n_execute}; allowed: at most the {policy.head.n_steps} steps of {name}'s chunks"
            )
    if cfg.oracle:
        para = next((c.policy for c in contestants if isinstance(c.policy.head, ParaHead)), None)
        if para is None or not isinstance(para.head, ParaHead):
            raise BadInput("oracle needs a policy with a para head; allowed otherwise: oracle false")
        contestants.append(Contestant("oracle", para, _digest(cfg, _scales(para.head)), oracle=True))
    dataset = Dataset(data_root)
    image_size = dataset.camera.size[0]
    task = None if cfg.suite is None else find_tasks(cfg.suite, [cfg.task])[0]
    jobs = episode_jobs(cfg, dataset, select, task)

    # Look at what an earlier run of the same command has finished, and run what is missing; no other may, meanwhile.
    make_folder(cfg.output / "videos")
    about = {"dataset": dataset.digest, "code": code_digest("eval.rollout", "eval.worker")}
    seeds = {key: trial.seed for key, trial in jobs.items()}
    with lock_folder(cfg.output):
        records = finished(cfg.output, about, {c.name: c.digest for c in contestants}, seeds)
        replace_file(cfg.output / "config.yaml", lambda path: path.write_text(dump(cfg)))
        wanted = [(c, {k: j for k, j in jobs.items() if not c.oracle or k[1] < cfg.n_oracle}) for c in contestants]
        if any((c.name, *key) not in records for c, its in wanted for key in its):
            run_all(cfg, wanted, records, dataset.fps, image_size, about, task)
        else:
            print("all of these episodes are there")
    for name in (c.name for c in contestants if task is not None):
        found = rates([r["outcome"] for r in records.values() if r["policy"] == name])
        low, high = found["wilson95"]
        placed = f"{found['place']} % of {found['n']} placed (Wilson 95 % {low} to {high})"
        print(f"{name}: {placed}, {found['grasp']} % lifted and not placed")
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
    with Pool(cfg.n_workers) as pool:
        look = {"kind": "describe", "image_size": image_size, "task": task.name if task else None}
        (_, scene), *_ = pool.run([look])
        print(f"camera self-test passed: markers within {scene['errors'].max():.2f} px")
        about = about | {"commit": commit()}
        for contestant, its in wanted:
            run_missing(cfg, pool, contestant, its, records, fps, image_size, about)
        if pool.n_restarts:
            print(f"{pool.n_restarts} simulator(s) died or hung and were replaced; their episodes were repeated")


def episode_jobs(
    cfg: Config, dataset: Dataset, select: Select, task: Task | None
) -> dict[tuple[str, int], Trial | TaskTrial]:
    """One trial per (split, episode): positions and jitters are the same for every policy."""
    extras = dataset.extras()
    if task is not None:
        return {("held_out", i): t for i, t in enumerate(task_trials(task, extras, cfg.n_episodes, cfg.seed))}
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
        its = trials(split, cfg.n_episodes, cfg.seed, trained, cfg.shift)
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
    protocol = {name: getattr(cfg, name) for name in ("executor", "step_cap", "n_execute")}
    protocol |= {"max_chunks": cfg.max_chunks or cfg.step_cap}
    protocol |= {"kind": "episode", "image_size": image_size, "period": 1 / fps}
    protocol |= {"oracle": contestant.oracle, "n_steps": contestant.policy.head.n_steps}
    protocol |= {"ensemble": contestant.ensemble}
    for number, result in pool.run([{**jobs[key].job(), **protocol} for key in missing], contestant.answer):
        split, i = missing[number]
        trial = jobs[split, i]
        video = cfg.output / "videos" / f"{name}_{split}_{i:03d}.mp4"
        replace_file(video, partial(write_video, frames=result.pop("frames"), fps=fps))
        record = {
            "policy": name,
            "split": split,
            "episode": i,
            **trial.record(),
            "executor": cfg.executor,
            "step_cap": cfg.step_cap,
            "ensemble": contestant.ensemble,
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


def ensemble_of(cfg: Config, head: ActionHead) -> float | None:
    """m of a policy's temporal ensembling; None where its chunks are executed as they are."""
    averages = {"act": isinstance(head, ActHead), "all": True, "none": False}[cfg.ensemble]
    return cfg.ensemble_m if averages else None


def through_head(head: ParaHead, camera: Camera, truth: ActionChunk) -> ActionChunk:
    """True waypoints encoded as the head's targets, decoded and lifted again: what no prediction can beat."""
    position = torch.from_numpy(truth.position).float()[None]
    pixel = torch.from_numpy(camera.resized(head.image_size).project(truth.position)).float()[None]
    gripper = torch.from_numpy(truth.gripper).float()[None]
    valid = torch.ones_like(gripper, dtype=torch.bool)
    angles = torch.zeros_like(position) if truth.rotation is None else torch.from_numpy(truth.rotation).float()[None]
    targets = Targets(pixel, position[..., 2], gripper, position, valid, angles)
    (chunk,) = head.decode(head.encode(targets), [camera])
    return chunk if truth.rotation is not None else replace(chunk, rotation=None)


def _check(cfg: Config) -> None:
    if cfg.executor not in EXECUTORS:
        raise choices("executor", cfg.executor, EXECUTORS)
    if not cfg.policies:
        raise BadInput("policies is empty; name at least one as {name: run folder}")
    for name in cfg.policies:
        if name == "oracle" or not re.fullmatch(r"[\w+.-]+", name):
            raise BadInput(f"policies has the name {name!r}; allowed: letters, digits, + - . _, and not 'oracle'")
    if not cfg.splits:
        raise BadInput(f"splits is empty; allowed: one or more of {', '.join(SPLITS)}")
    for split in cfg.splits:
        if split not in SPLITS:
            raise choices("splits", split, SPLITS)
    if cfg.suite is None and cfg.task is not None:
        raise BadInput(f"task is {cfg.task}, but suite is null; allowed: a suite of LIBERO with it, as libero_spatial")
    for key, default in (("splits", Config.splits), ("shift", Config.shift)):
        if cfg.suite is not None and getattr(cfg, key) != default:
            raise BadInput(f"{key} is {getattr(cfg, key)!r}, but suite is {cfg.suite!r}; allowed: one of the two")
    if cfg.n_episodes is not None and cfg.n_episodes < 1:
        raise BadInput(f"n_episodes is {cfg.n_episodes}; allowed: at least 1, or null")
    if not 0 <= cfg.ensemble_m < float("inf"):
        raise BadInput(f"ensemble_m is {cfg.ensemble_m}; allowed: at least 0")
    for key in ("n_oracle", "n_execute", "n_workers", "n_threads", "max_chunks", "step_cap"):
        value = getattr(cfg, key)
        if value is not None and value < 1:
            raise BadInput(f"{key} is {value}; allowed: at least 1{', or null' if key == 'max_chunks' else ''}")


def _scales(head: ParaHead) -> str:
    """What an oracle's waypoints go through: a head without its weights."""
    bins = head.height_bins
    return json.dumps(
        ["oracle", asdict(head.cfg), head.n_steps, head.grid, head.image_size, bins.low, bins.high, head.period]
    )


def _digest(cfg: Config, weights: str, precision: str = "fp32", ensemble: float | None = None) -> str:
    """What identifies an evaluated policy: its weights, and how it is rolled out."""
    protocol = [cfg.executor, cfg.n_execute, cfg.step_cap, cfg.max_chunks, cfg.shift, cfg.seed]
    protocol += [precision] if ensemble is None else [precision, "ensemble", ensemble]
    protocol += [] if cfg.suite is None else [cfg.suite, cfg.task]
    return hashlib.sha256(json.dumps([weights, protocol]).encode()).hexdigest()[:16]


if __name__ == "__main__":
    launch(main, Config)
