"""What bounds a few-shot table: the oracle through one of its pixel-aligned heads, once for all cells. No training."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from eval.episodes import read_episodes
from eval.lifting import kept_sensitivity
from videopolicy.errors import BadInput
from videopolicy.rates import rates
from videopolicy.training import checkpoint

CONFIG = Path(__file__).parent.parent / "configs/fewshot/rollout.yaml"
FOLDER = "oracle"
N_MOST = 40  # episodes


def measure(output: Path, n_episodes: int) -> None:
    """Its episodes, through the head that was tuned on most demonstrations; none where no such head was tuned.

    They are as many as a cell has, at most 40; what is there is kept.
    """
    folder, n = output / FOLDER, min(N_MOST, n_episodes)
    if sum(r["policy"] == "oracle" for r in read_episodes(folder)) >= n:
        return
    if (folder / "config.yaml").is_file():
        policies = yaml.safe_load((folder / "config.yaml").read_text())["policies"]
    else:
        runs = sorted((p.parent for p in (output / "tune").glob("para_*/latest")), key=_demonstrations)
        policies = {run.name: str(run) for run in [run for run in runs if _is_whole(run)][-1:]}
    if not policies or not all(Path(run).is_dir() for run in policies.values()):
        return
    options = {"output": folder, "policies": json.dumps(policies), "oracle": "true", "n_oracle": n, "n_episodes": 0}
    words = [f"--{name}={value}" for name, value in options.items()]
    print(f"[oracle] {n} episodes", flush=True)
    if status := subprocess.run([sys.executable, "-m", "eval.rollout", f"--config_path={CONFIG}", *words]).returncode:
        raise BadInput(f"the oracle's rollouts in {folder} ended with status {status}; the same command continues")


def _demonstrations(run: Path) -> tuple[int, str]:
    """Of a tuned policy by its name, which ends in their number and the seed."""
    return int(run.name.split("_")[-2]), run.name


def _is_whole(run: Path) -> bool:
    try:
        return checkpoint.latest(run) is not None
    except BadInput:
        return False


def read(output: Path) -> dict:
    """`oracle`, rows of what was measured, and `sensitivity`, of its head or another of the cells'; empty where not."""
    outcomes = [r["outcome"] for r in read_episodes(output / FOLDER) if r["policy"] == "oracle"]
    rows = [{"policy": "oracle", **rates(outcomes)}] if outcomes else []
    return {
        "oracle": rows,
        "sensitivity": kept_sensitivity([output / FOLDER, *sorted((output / "rollout").glob("*/"))]),
    }
