"""Evaluation throughput: rendering only when re-planning, parallel workers and batched forwards, against neither.

python -m bench.rollout [--json FILE]

Naive: one simulator process with LIBERO's own step, a picture at every control step, one forward per re-planning. Both
sides run the same episodes with the same network. It looks at every observation, but the expert's waypoints are
executed, so that untrained networks can be measured and both sides do as many control steps. Medians of interleaved
repeats; making the simulators is not counted.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.figures import reserve
from eval.pool import Answer, Pool
from eval.positions import held_out_positions
from videopolicy.backbones.image import ImageBackbone, ImageConfig
from videopolicy.config import guarded
from videopolicy.data.files import write_json
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig, make_head
from videopolicy.policy import FeaturePolicy, load
from videopolicy.types import ActionChunk

FPS, N_EXECUTE = 4, 8  # waypoints a second, and of each chunk executed: as on the out-of-distribution axes
LABELS = {"height": (0.0, 0.3), "position_mean": [-0.2, 0.0, 0.15], "position_std": [0.1, 0.15, 0.1]}


def untrained(size: int) -> FeaturePolicy:
    """EfficientNet-Lite0 with a pixel-aligned head that has learned nothing."""
    torch.manual_seed(0)
    backbone = ImageBackbone(ImageConfig("efficientnet_lite0", "random", (size, size))).eval()
    return FeaturePolicy(backbone, make_head(HeadConfig(), backbone, LABELS, FPS).eval(), (size, size))


def looking(policy: FeaturePolicy) -> Answer:
    """Answers with the expert's chunks, after the policy has worked out its own."""

    def answer(requests: list[tuple[str, Any]]) -> list[ActionChunk]:
        policy.act_batch([observation for _, (observation, _) in requests])
        return [truth for _, (_, truth) in requests]

    return answer


def episodes(n: int, size: int, max_chunks: int, n_steps: int) -> list[dict]:
    """Jobs on the left half of the table, the servo that waits for each waypoint."""
    protocol = {"kind": "episode", "image_size": size, "period": 1 / FPS, "oracle": True, "n_steps": n_steps}
    protocol |= {"executor": "teleport", "step_cap": 600, "n_execute": N_EXECUTE, "max_chunks": max_chunks}
    protocol |= {"ensemble": None, "init_state": None, "start_jitter": np.zeros(3), "plate_xy": None}
    return [{**protocol, "bowl_xy": xy} for xy in held_out_positions("seen", n, seed=0)]


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--policy", type=Path, help="a training run; otherwise an untrained EfficientNet-Lite0")
    parser.add_argument(
        "--size", type=int, default=448, help="of the pictures [pixels]; a policy resizes them to its own"
    )
    parser.add_argument("--workers", type=int, default=2, help="simulators of our side")
    parser.add_argument("--episodes", type=int, default=2, help="per repeat and side")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved")
    parser.add_argument("--chunks", type=int, default=16, help="re-plannings of an episode, at most")
    args = parser.parse_args(arguments)
    reserve(args.json)
    for name in ("size", "workers", "episodes", "repeats", "chunks"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}; allowed: at least 1")
    torch.set_num_threads(1)
    try:
        policy = load(args.policy)[0] if args.policy else untrained(args.size)
    except BadInput as error:
        parser.error(str(error))
    answer, jobs = looking(policy), episodes(args.episodes, args.size, args.chunks, policy.head.n_steps)

    sides = {"naive": (1, "bench.standard"), "one_worker": (1, "eval.worker"), "ours": (args.workers, "eval.worker")}
    if args.workers == 1:
        del sides["one_worker"]
    with ExitStack() as stack:
        pools = {name: stack.enter_context(Pool(*side)) for name, side in sides.items()}
        for pool in pools.values():  # every simulator is made, and has drawn a picture
            list(pool.run([{"kind": "describe", "image_size": args.size}] * len(pool.workers)))
        times: dict[str, list[float]] = {name: [] for name in pools}
        counts: dict[str, dict[str, int]] = {}
        for _ in range(args.repeats):
            for name, pool in pools.items():
                began = time.perf_counter()
                results = [result for _, result in pool.run(jobs, answer)]
                times[name].append(time.perf_counter() - began)
                counts[name] = {key: sum(r[key] for r in results) for key in ("control_steps", "chunks")}

    rows = [row(name, times, counts, args.episodes) for name in sides if name != "naive"]
    for entry in rows:
        print(line(entry, args.repeats), flush=True)
    if args.json:
        write_json(args.json, {"rows": rows})
    return rows


def row(name: str, times: dict[str, list[float]], counts: dict[str, dict[str, int]], n_episodes: int) -> dict:
    """A side against the naive one; `RuntimeError` where they did not do the same."""
    (steps, chunks), (its_steps, its_chunks) = (counts[side].values() for side in ("naive", name))
    # The environment's own step rounds otherwise: a servo may need a step more to be within 8 mm.
    if chunks != its_chunks or abs(steps - its_steps) > 0.02 * steps:
        raise RuntimeError(f"the sides ran different episodes, {name} against naive: {counts[name]}, {counts['naive']}")
    ratios = [slow / fast for slow, fast in zip(times["naive"], times[name], strict=True)]
    rates = {side: 60 * n_episodes / float(np.median(times[side])) for side in ("naive", name)}
    return {
        "name": f"rollout_{name}",
        "ratio": rates[name] / rates["naive"],
        "ratio_range": [min(ratios), max(ratios)],
        "episodes_per_minute": rates[name],
        "naive_episodes_per_minute": rates["naive"],
        "n_episodes": n_episodes,
        **counts[name],
        "naive_control_steps": steps,
    }


def line(row: dict, repeats: int) -> str:
    low, high = row["ratio_range"]
    return (
        f"{row['name']:<20} {row['ratio']:.1f}x the episodes a minute ({row['naive_episodes_per_minute']:.1f} against"
        f" {row['episodes_per_minute']:.1f}; {low:.1f} to {high:.1f} in {repeats} repeats of {row['n_episodes']}"
        f" episodes, {row['control_steps']} control steps, {row['chunks']} re-plannings)"
    )


if __name__ == "__main__":
    guarded(main)
