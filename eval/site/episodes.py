"""The episodes of every evaluation, for the page where one clicks at their positions."""

import json
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from eval.axis import TITLES, open_dataset
from eval.episodes import read_episodes, shift_of, video_file
from eval.positions import X_RANGE, Y_RANGE
from eval.site.found import Evaluation, Found
from eval.site.groups import AGAIN, Group
from eval.site.media import Media
from eval.statistics import rates_of
from videopolicy.config import from_dict
from videopolicy.data.dataset import DataConfig, split_episodes
from videopolicy.names import label
from videopolicy.training import checkpoint

TABLE = [list(corner) for corner in zip(X_RANGE, Y_RANGE, strict=True)]


def groups_of(found: Found, media: Media, n_videos: int | None) -> list[Group]:
    """Of all evaluations, plain control last; what cannot be read is noted.

    The videos of the first `n_videos` episodes of a policy on an axis come along.
    """
    groups: dict[tuple[str, str, str], Group] = {}
    for evaluation in found.evaluations:
        with found.noting(evaluation.folder):
            _add(groups, found, evaluation, media, n_videos)
    return sorted((g for g in groups.values() if g.policies), key=lambda g: g.executor == "osc")


def _add(groups: dict, found: Found, evaluation: Evaluation, media: Media, n_videos: int | None) -> None:
    folder, records = evaluation.folder, read_episodes(evaluation.folder)
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text()) if path.is_file() else {}
    name = evaluation.suite or evaluation.name
    by: dict[tuple[str, str, str], list[dict]] = {}
    for record in records:
        by.setdefault((record["split"], record.get("executor", "unknown"), record["policy"]), []).append(record)
    for (split, executor, policy), mine in sorted(by.items(), key=lambda each: (*each[0][:2], each[0][2] == "oracle")):
        title = TITLES.get(split, split.replace("_", " "))
        if config.get("suite"):
            title = f"{config['suite']}, task {config['task']}: {title}"
        group = groups.setdefault((name, split, executor), Group(name, split, title, executor, table=TABLE))
        run = config.get("policies", {}).get(policy)
        shown = policy if all(p["name"] != policy for p in group.policies) else f"{policy} ({folder.name})"
        trained = None
        with found.noting(folder):  # a damaged checkpoint costs no episode
            trained = positions(run) if run else None
        entry = {
            "name": shown,
            "label": label(shown),
            "rates": rates_of(mine) | shift_of(mine),
            "command": command(path, config, policy, split) if run or (config and policy == "oracle") else None,
            "where": f"{AGAIN}/videos/{policy}_{split}_{{number}}.mp4",
            "trained": _numbered(group.trained, trained),
            "episodes": [_episode(folder, r, media, n_videos) for r in sorted(mine, key=lambda r: r["episode"])],
        }
        group.policies.append(entry)


def _episode(folder: Path, r: dict, media: Media, n_videos: int | None) -> dict:
    video = video_file(folder, r)
    taken = n_videos is None or r["episode"] < n_videos
    there = taken and video.parent == folder / "videos" and video.is_file()
    said = [c for c in r.get("confidence", []) if c is not None]
    final = r.get("final") or {}
    apart = np.subtract(final["bowl"], final["plate"])[:2] if {"bowl", "plate"} <= final.keys() else None
    xy, view, state = (r.get(key) for key in ("bowl_xy", "view", "init_state"))
    facts = (
        None if xy is None else "{:.3f}, {:.3f}".format(*xy),
        None if r.get("distance") is None else f"{100 * r['distance']:.1f}",
        None if view is None else "{:.1f}, {:.0f}".format(*view),
        state,
        None if apart is None else f"{100 * float(np.hypot(*apart)):.1f}",
        r.get("chunks"),
        r.get("control_steps"),
        f"{np.mean(said):.2f}" if said else None,
        r.get("restarts") or None,
        r["seed"],
        r["commit"],
    )
    found = {"n": r["episode"], "o": r["outcome"], "xy": xy, "view": view, "m": media.add(video) if there else None}
    return found | {"f": [None if f is None else str(f) for f in facts]}


def command(path: Path, config: dict, policy: str, split: str) -> str:
    """What rolls an episode out again and keeps its video; `{n}` stands for how many, itself the last of them."""
    runs = config["policies"]
    chosen = runs if policy == "oracle" else {policy: runs[policy]}
    words = ["python", "-m", "eval.rollout", "--config_path", str(path), "--output", AGAIN]
    words += ["--policies", json.dumps(chosen)]
    for key in ("n_execute_of", "stiffness_of"):
        if config.get(key):
            words += [f"--{key}", json.dumps({k: v for k, v in config[key].items() if k in chosen})]
    words += [] if config.get("suite") else ["--splits", json.dumps([split])]
    words += ["--oracle", "true", "--n_episodes", "0"] if policy == "oracle" else ["--oracle", "false"]
    return f"{shlex.join(words)} {'--n_oracle' if policy == 'oracle' else '--n_episodes'} {{n}}"


@cache
def positions(run: str) -> tuple[tuple[float, float], ...] | None:
    """Where the bowl stood in the demonstrations that a run was trained on; None where run or dataset is gone."""
    there = checkpoint.steps(Path(run))
    if not there:
        return None
    data = checkpoint.read_config(there[-1])["data"]
    if (dataset := open_dataset(data["root"])) is None:
        return None
    extras = dataset.extras()
    chosen = [extras[e] for e in split_episodes(dataset, from_dict(DataConfig, data))[0]]
    return tuple((float(e["bowl_xy"][0]), float(e["bowl_xy"][1])) for e in chosen if "bowl_xy" in e)


def _numbered(known: list, wanted: tuple | None) -> int | None:
    """Its place in a list of what is known, which grows by it."""
    if not wanted:
        return None
    if list(wanted) not in known:
        known.append(list(wanted))
    return known.index(list(wanted))
