"""Roll policies out in LIBERO, closed loop; the same command resumes at the first missing episode.

python -m eval.rollout --config_path configs/demo/rollout.yaml
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from eval.pool import Pool
from eval.positions import distance_to_training, episode_seed, test_positions
from videopolicy.camera import Camera
from videopolicy.config import dump, launch
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput, choices
from videopolicy.heads.head import Targets
from videopolicy.heads.para import ParaHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.progress import Progress
from videopolicy.training import checkpoint
from videopolicy.types import ActionChunk

SPLITS = ("seen", "unseen")


@dataclass(frozen=True)
class Config:
    """Which policies to roll out, where and how often."""

    output: Path = Path("runs/rollout")
    policies: dict[str, str] = field(default_factory=dict)  # name in the report -> stage-two run
    oracle: bool = True  # also execute ground-truth waypoints through the pixel-aligned head's encoding
    n_episodes: int = 40  # per policy and split
    executor: str = "teleport"
    n_execute: int = 4  # waypoints of each chunk that are executed
    step_cap: int = 600  # control steps of an episode
    max_chunks: int = 12
    start_jitter: float = 0.01  # [m]
    n_workers: int = 2
    n_threads: int = 1  # of the policy's process
    seed: int = 1000


def main(cfg: Config) -> list[dict]:
    print(dump(cfg))
    if cfg.executor not in ("teleport", "osc"):
        raise choices("executor", cfg.executor, ("teleport", "osc"))
    if not cfg.policies:
        raise BadInput("policies is empty; name at least one as {name: run folder}")
    torch.set_num_threads(cfg.n_threads)
    loaded = {name: (*load(Path(path)), fingerprint(Path(path))) for name, path in cfg.policies.items()}
    cfg.output.mkdir(parents=True, exist_ok=True)
    records = {(r["policy"], r["split"], r["episode"]): r for r in read_records(cfg.output / "episodes.jsonl")}

    with Pool(cfg.n_workers) as pool:
        first_config = next(iter(loaded.values()))[1]
        dataset = Dataset(Path(first_config["data"]["root"]))
        image_size, fps = dataset.camera.size[0], dataset.fps
        (_, scene), *_ = pool.run([{"kind": "describe", "image_size": image_size}])
        print(f"camera self-test passed: markers within {scene['errors'].max():.2f} px")
        for name, (policy, config, digest) in loaded.items():
            _run(cfg, pool, name, policy, digest, image_size, fps, records, oracle=False)
        if cfg.oracle:
            para = next((p for p, _, _ in loaded.values() if isinstance(p.head, ParaHead)), None)
            if para is None:
                raise BadInput("oracle needs a policy with a para head; allowed otherwise: oracle false")
            _run(cfg, pool, "oracle", para, "ground truth", image_size, fps, records, oracle=True)
        if pool.n_restarts:
            print(f"{pool.n_restarts} simulator(s) died and were replaced; their episodes were repeated")
    return list(records.values())


def episode_jobs(cfg: Config, image_size: int, fps: int, n_steps: int, oracle: bool) -> dict[tuple[str, int], dict]:
    """One job per (split, episode): positions and jitters are the same for every policy."""
    jobs = {}
    for split in SPLITS:
        for i, bowl_xy in enumerate(test_positions(split, cfg.n_episodes, cfg.seed)):
            rng = np.random.default_rng(episode_seed("rollout", cfg.seed, split, i))
            jobs[split, i] = {
                "kind": "episode",
                "image_size": image_size,
                "bowl_xy": bowl_xy,
                "start_jitter": rng.uniform(-cfg.start_jitter, cfg.start_jitter, 3),
                "executor": cfg.executor,
                "step_cap": cfg.step_cap,
                "period": 1 / fps,
                "n_steps": n_steps,
                "n_execute": cfg.n_execute,
                "max_chunks": cfg.max_chunks,
                "oracle": oracle,
            }
    return jobs


def _run(
    cfg: Config,
    pool: Pool,
    name: str,
    policy: FeaturePolicy,
    digest: str,
    image_size: int,
    fps: int,
    records: dict,
    oracle: bool,
) -> None:
    """The missing episodes of one policy, each a line of episodes.jsonl and a small video."""
    jobs = episode_jobs(cfg, image_size, fps, policy.head.n_steps, oracle)
    for (split, i), job in jobs.items():
        before = records.get((name, split, i))
        if before and before["policy_hash"] != digest:
            raise BadInput(f"{cfg.output} holds episodes of another {name!r}; remove the folder or name another output")
    missing = [key for key in jobs if (name, *key) not in records]
    progress = Progress(f"rollout {name}", len(jobs), len(jobs) - len(missing))

    def answer(requests: list[tuple[str, object]]) -> list[ActionChunk]:
        if oracle:
            return [through_head(policy.head, *payload) for _, payload in requests]
        return policy.act_batch([observation for _, observation in requests])

    for number, result in pool.run([jobs[key] for key in missing], answer):
        split, i = missing[number]
        frames = result.pop("frames")
        record = {
            "policy": name,
            "split": split,
            "episode": i,
            "seed": episode_seed("rollout", cfg.seed, split, i),
            "bowl_xy": jobs[split, i]["bowl_xy"].round(4).tolist(),
            "distance": round(distance_to_training(jobs[split, i]["bowl_xy"]), 4),
            "executor": cfg.executor,
            "step_cap": cfg.step_cap,
            "policy_hash": digest,
            **result,
        }
        videos = cfg.output / "videos"
        videos.mkdir(exist_ok=True)
        write_video(videos / f"{name}_{split}_{i:03d}.mp4", frames, fps)
        with (cfg.output / "episodes.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        records[name, split, i] = record
        done = [r for r in records.values() if r["policy"] == name]
        placed = sum(r["outcome"] == "place" for r in done)
        progress.update(len(done), f"{placed}/{len(done)} placed")
    progress.close()


def through_head(head: ParaHead, camera: Camera, truth: ActionChunk) -> ActionChunk:
    """True waypoints encoded as the head's targets, decoded and lifted again: what no prediction can beat."""
    position = torch.from_numpy(truth.position).float()[None]
    pixel = torch.from_numpy(camera.resized(head.image_size).project(truth.position)).float()[None]
    gripper = torch.from_numpy(truth.gripper).float()[None]
    valid = torch.ones_like(gripper, dtype=torch.bool)
    targets = Targets(pixel, position[..., 2], gripper, position, valid)
    return head.decode(head.encode(targets), [camera])[0]


def fingerprint(run: Path) -> str:
    """What identifies a trained policy: the digest of its weights."""
    manifest = json.loads((checkpoint.find(run) / "manifest.json").read_text())
    return manifest["model.safetensors"]["sha256"][:16]


def read_records(path: Path) -> list[dict]:
    """Finished episodes; a last line cut short by a crash is dropped from the file."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


if __name__ == "__main__":
    launch(main, Config)
