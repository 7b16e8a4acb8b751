"""A pixel-aligned policy's errors on clips, in pixels, in height and in space, and what temporal decoding does to them.

python -m eval.decoding --policy runs/light/para

On clips of its own dataset, decoded from the same heatmaps once for every stiffness: does a path that may not jump err
less, or shake less, than each step's own peak?
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from eval.statistics import bootstrap95
from videopolicy.config import dump, from_dict, launch
from videopolicy.data.dataset import ClipDataset, DataConfig, split_episodes
from videopolicy.data.files import make_folder, write_json
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import selected, spread
from videopolicy.errors import BadInput, at_least_one
from videopolicy.heads.para import ParaHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.progress import Progress
from videopolicy.types import Observation

BATCH = 16


@dataclass(frozen=True)
class Config:
    """Which policy, decoded how."""

    policy: Path = Path("runs/light/para")
    stiffness: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # nats per squared cell between steps
    # Of episodes held out from training, or of those that the policy's training set leaves out (another half, say).
    clips: Literal["held_out", "left_out"] = "held_out"
    n_clips: int = 256  # evenly spread
    output: Path = Path("runs/decoding")
    n_threads: int = 1


def main(cfg: Config) -> dict:
    print(dump(cfg))
    at_least_one(cfg, "n_clips", "n_threads")
    if 0.0 not in cfg.stiffness or min(cfg.stiffness) < 0:
        raise BadInput(f"stiffness is {list(cfg.stiffness)}; allowed: 0, which the others are held against, and above")
    torch.set_num_threads(cfg.n_threads)
    policy, config = load(cfg.policy)
    if not isinstance(policy.head, ParaHead):
        raise BadInput(f"policy {cfg.policy} has head {config['head']['kind']!r}; allowed: para, which has heatmaps")
    data_config = from_dict(DataConfig, config["data"])
    data = Dataset(data_config.root)
    if cfg.clips == "held_out":
        _, episodes = split_episodes(data, data_config)
    else:
        trained_on = selected(data_config.select, data.extras(), len(data), data.root)
        episodes = sorted(set(range(len(data))) - set(trained_on))
    if not episodes:
        raise BadInput(
            f"clips is {cfg.clips!r}, but {cfg.policy}, trained on data.select {data_config.select!r} with"
            f" data.n_val_episodes {data_config.n_val_episodes}, has none of {data.root}"
        )
    clips = ClipDataset(data, episodes, 1, policy.head.n_steps, policy.image_size, data_config.cache_gb)
    make_folder(cfg.output)
    chosen = spread(len(clips), cfg.n_clips)
    paths = decoded(policy, policy.head, data, clips, chosen, cfg.stiffness)

    # Hold every path against the true one, step by step, and both against the plain decoding.
    labels = torch.utils.data.default_collate([clips[i] for i in chosen])
    true, valid = labels["position"].double().numpy(), labels["valid"].numpy()
    episode = np.array([clips.samples[i][0] for i in chosen])
    plain = per_clip(paths[0.0][0], true, valid)
    rows = []
    for stiffness, (path, pixel) in paths.items():
        mine = per_clip(path, true, valid)
        entry: dict = {"stiffness": stiffness, **{name: float(np.nanmean(x)) for name, x in mine.items()}}
        off = np.linalg.norm(pixel - labels["pixel"].numpy(), axis=-1)[valid]
        up = 1000 * np.abs(path - true)[valid][:, 2]
        entry |= {"pixel_px": float(off.mean()), "pixel_px_median": float(np.median(off))}
        entry |= {"height_mm": float(up.mean()), "height_mm_median": float(np.median(up))}
        for name in ("position_mm", "jitter_mm"):
            entry[f"{name}_change95"] = bootstrap95(mine[name] - plain[name], episode)
        rows.append(entry)
    summary = {"policy": str(cfg.policy), "data": str(data.root), "clips": cfg.clips, "n_clips": len(chosen)}
    summary |= {"n_episodes": len(set(episode.tolist())), "n_waypoints": int(valid.sum())}
    summary |= {"image_size": list(policy.image_size), "rows": rows}
    write_json(cfg.output / "summary.json", summary)
    print(table(summary))
    return summary


@torch.inference_mode()
def decoded(
    policy: FeaturePolicy,
    head: ParaHead,
    data: Dataset,
    clips: ClipDataset,
    chosen: list[int],
    stiffness: tuple[float, ...],
) -> dict[float, tuple[Float[np.ndarray, "clip step 3"], Float[np.ndarray, "clip step 2"]]]:
    """Waypoints [m] of chosen clips' first frames, and their pixels, for every stiffness."""
    found: dict[float, list] = {s: [] for s in stiffness}
    as_it_was, progress = head.cfg, Progress("decoding", len(chosen), 0)
    for i in range(0, len(chosen), BATCH):
        samples = [(clips[j], *clips.samples[j]) for j in chosen[i : i + BATCH]]
        seen = [
            Observation(sample["frames"][0].numpy(), data.camera_of(e), data.state(e)[t, :3], 0.0, 0.0)
            for sample, e, t in samples
        ]
        prediction = policy.predict(seen)
        for s in stiffness:
            head.cfg = replace(as_it_was, stiffness=s)
            found[s] += head.decode(prediction, [o.camera for o in seen])
        progress.update(i + len(samples), "")
    progress.close()
    head.cfg = as_it_was
    return {
        s: (np.stack([c.position for c in chunks]), np.stack([c.pixel for c in chunks])) for s, chunks in found.items()
    }


def per_clip(
    path: Float[np.ndarray, "clip step 3"],
    true: Float[np.ndarray, "clip step 3"],
    valid: Bool[np.ndarray, "clip step"],
) -> dict[str, Float[np.ndarray, " clip"]]:
    """Means over a clip's valid waypoints, NaN where it has none [mm].

    Jitter is the size of a path's second difference; `true_jitter` is the true path's own, which is no fault.
    """
    whole = valid[:, 2:] & valid[:, 1:-1] & valid[:, :-2]  # three in a row

    def mean(distance: np.ndarray, keep: np.ndarray) -> np.ndarray:
        n = keep.sum(1)
        return np.where(n > 0, 1000 * np.where(keep, distance, 0.0).sum(1) / np.maximum(n, 1), np.nan)

    bend, true_bend = (np.linalg.norm(np.diff(x, 2, axis=1), axis=-1) for x in (path, true))
    return {
        "position_mm": mean(np.linalg.norm(path - true, axis=-1), valid),
        "jitter_mm": mean(bend, whole),
        "true_jitter_mm": mean(true_bend, whole),
    }


def table(summary: dict) -> str:
    """The results as text."""
    lines = [
        f"{summary['n_clips']} {summary['clips']} clips of {summary['n_episodes']} episodes, {summary['n_waypoints']}"
        " waypoints; in brackets the change against stiffness 0, 95 %",
        f"{'stiffness':>9}  {'error [mm]':>10}{'':<18}{'jitter [mm]':>11}{'':<18}{'true jitter':>11}"
        f"{'pixels':>8}{'median':>8}{'height [mm]':>13}{'median':>8}",
    ]
    for r in summary["rows"]:
        error, jitter = ("({:+.2f} to {:+.2f})".format(*r[f"{n}_change95"]) for n in ("position_mm", "jitter_mm"))
        lines.append(
            f"{r['stiffness']:>9g}  {r['position_mm']:>10.2f} {error:<17}{r['jitter_mm']:>11.2f} {jitter:<17}"
            f"{r['true_jitter_mm']:>11.2f}{r['pixel_px']:>8.2f}{r['pixel_px_median']:>8.2f}"
            f"{r['height_mm']:>13.2f}{r['height_mm_median']:>8.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch(main, Config)
