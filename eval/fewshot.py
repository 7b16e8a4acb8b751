"""Few-shot tuning: policies from few demonstrations, from scratch and pretrained on circles. Section 4.4.

python -m eval.fewshot --config_path configs/fewshot/suite.yaml
python -m eval.fewshot --config_path configs/fewshot/suite.yaml --policies "[para]" --pretrain "[3d]" --demos "[10]"

Trains and rolls out what is missing of the named cells, and reports all that is there: in rounds of cells that are
compared with each other (`fewshot_cells.py`), with a report after each. PARA from scratch and pretrained in 3-D on 10
demonstrations comes first, then on 5; from scratch and pretrained in 2-D on 1, 3 and 5; from scratch at equal compute;
both heads on 20; and then the rest, by numbers of demonstrations in the order in which they are named.

A finished cell is `rollout/<cell>/cell.json`, `config.yaml` and `episodes.jsonl`; what circles say of robots is
`zero_shot/*`, what bounds every cell `oracle/*`. Wherever these small files were made, they count as done and are
reported, without any checkpoint.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from eval import fewshot_oracle, zero_shot
from eval.episodes import OTHER, read_episodes
from eval.fewshot_cells import Cell, Config, Kind, Pretrain, cells_of, rounds
from eval.fewshot_report import CELL, report
from eval.fewshot_training import CONFIGS, ended_when_asked, train, trainings_of
from eval.suites import N_EACH, N_POSITIONS
from eval.training import Damaged, Training, refuse
from videopolicy.config import dump, launch
from videopolicy.data.files import make_folder, read_json, write_json
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput, at_least_one, choices
from videopolicy.training import checkpoint

Needs = dict[str, Training]
FREE = ("output", "policies", "n_episodes")  # of the rollouts' recipe


def main(cfg: Config) -> dict:
    print(dump(cfg))
    n_all = _check(cfg)
    cells = cells_of(cfg, n_all)
    needs = {cell: trainings_of(cfg, cell, n_all) for cell in cells}

    # What is there must be what is asked for. A run that is damaged costs the cells that need it, and no others.
    missing: list[Cell] = []
    damaged: dict[str, list[str]] = {}
    for cell in cells:
        try:
            if _finished(cfg, cell, needs[cell]):
                continue
            for training in needs[cell].values():
                if not training.done():  # what is begun from it is looked at once it is
                    break
            missing.append(cell)
        except Damaged as error:
            damaged.setdefault(str(error), []).append(cell.name)
    left_out = [f"left out {', '.join(names)}: {reason}" for reason, names in damaged.items()]
    for line in left_out:
        print(line)
    n_left_out = sum(map(len, damaged.values()))
    print(f"{len(cells) - len(missing) - n_left_out} of {len(cells)} cells are done", flush=True)

    # One round after another, so that what was asked first is answered first.
    make_folder(cfg.output)
    summary = None
    for number, its in enumerate(todo := rounds(missing), 1):
        print(f"[round {number} of {len(todo)}] {' '.join(cell.name for cell in its)}", flush=True)
        with ended_when_asked():
            _fill(cfg, its, needs)
            summary = _report(cfg)
    if summary is None and len(cells) > n_left_out:
        summary = _report(cfg)
    if left_out:
        raise BadInput("; ".join(left_out))
    assert summary is not None
    return summary


def _check(cfg: Config) -> int:
    """The number of robot demonstrations; `BadInput` for what cannot be run."""
    for name, allowed in (("policies", get_args(Kind)), ("pretrain", get_args(Pretrain))):
        for value in getattr(cfg, name):
            if value not in allowed:
                raise choices(name, value, allowed)
    for name in ("policies", "pretrain", "demos", "seeds"):
        if not getattr(cfg, name):
            raise BadInput(f"{name} is empty; allowed: at least one")
    at_least_one(cfg, "n_episodes", "n_steps_pretrain", "n_steps", "n_steps_all", "n_parallel")
    if min(cfg.seeds) < 0:
        raise BadInput(f"seeds has {min(cfg.seeds)}; allowed: from 0 on")
    robot = Dataset(cfg.robot)
    if robot.tracked or (robot.overlay or {}).get("robot", "shown") != "shown":
        without = "positions" if robot.tracked else "a robot in the picture"
        raise BadInput(f"robot is {cfg.robot}, without {without}; allowed: demonstrations by the robot, as it was seen")
    n_all = len(robot)
    for name, most, note in (("demos", n_all, ""), ("equal_compute", n_all - 1, ", but not all of them")):
        for demos in getattr(cfg, name):
            if not 1 <= demos <= most:
                whose = f"the {n_all} demonstrations of {cfg.robot}{note}"
                raise BadInput(f"{name} has {demos}; allowed: 1 to {whose}")
    if cfg.n_episodes > N_POSITIONS * N_EACH:
        raise BadInput(f"n_episodes is {cfg.n_episodes}; allowed: 1 to {N_POSITIONS * N_EACH}, which few_shot has")
    if any(pretrain != "scratch" for pretrain in cfg.pretrain):
        overlay = Dataset(cfg.circles).overlay or {}
        if overlay.get("kind") != "circle" or overlay.get("robot") == "shown":
            raise BadInput(f"circles is {cfg.circles}, in which a robot is seen; allowed: data of --overlay circle")
    return n_all


def _report(cfg: Config) -> dict:
    """With what bounds every cell, and what circles say before any tuning, measured where that is missing."""
    fewshot_oracle.measure(cfg.output, cfg.n_episodes)
    zero_shot.measure(cfg.output, cfg.robot, cfg.circles)
    return report(cfg.output)


def _fill(cfg: Config, cells: Sequence[Cell], needs: dict[Cell, Needs]) -> None:
    """Train and roll out; what begins from no other run comes first, so that it is trained beside pretraining."""
    every = [training for cell in cells for training in needs[cell].values()]
    for begun in (False, True):
        train([t for t in every if ("init_from" in t.changes) == begun], cfg.n_parallel)
    for cell in cells:
        _roll_out(cfg, cell, needs[cell])


def _roll_out(cfg: Config, cell: Cell, needs: Needs) -> None:
    folder, run = cfg.output / "rollout" / cell.name, needs["tuning"].run
    options = {"output": folder, "policies": json.dumps({cell.name: str(run)}), "n_episodes": cfg.n_episodes}
    words = [f"--{name}={value}" for name, value in options.items()]
    print(f"[rollout of {cell.name}]", flush=True)
    command = [sys.executable, "-m", "eval.rollout", f"--config_path={CONFIGS / 'rollout.yaml'}", *words]
    if status := subprocess.run(command).returncode:
        raise BadInput(f"rollouts of {folder} ended with status {status}; the same command continues")
    found = checkpoint.find(run)
    state = checkpoint.read_state(found)
    made = {"weights": checkpoint.weights_digest(found), "init_from": state.get("init_from")}
    cell_file = _about(needs) | made | {"trained_at": state["commits"]}
    write_json(folder / CELL, cell_file)


def _about(needs: Needs) -> dict[str, Any]:
    """How a cell is trained and rolled out, wherever that is done; not how often, which may grow."""
    recipe = yaml.safe_load((CONFIGS / "rollout.yaml").read_text())
    found = {f"rollout.{name}": str(value) for name, value in recipe.items() if name not in FREE}
    for what, training in needs.items():
        its = training.settings().items()
        found |= {f"{what}.{name}": str(value) for name, value in its if name not in ("run", "init_from")}
    return found


def _finished(cfg: Config, cell: Cell, needs: Needs) -> bool:
    """Whether all its episodes are there, whatever else is; `BadInput` where they are of another training."""
    folder: Path = cfg.output / "rollout" / cell.name
    if not (folder / CELL).is_file():
        return False
    made = read_json(folder / CELL)
    asked = _about(needs)
    refuse(str(folder), "is of a policy", made, asked)
    for name in sorted(name for name in made if "." in name and name not in asked):  # with a dot: how it was made
        raise BadInput(f"{folder} is of a policy with {name} {made[name]}, not without; {OTHER}")
    return {r["episode"] for r in read_episodes(folder)} >= set(range(cfg.n_episodes))


if __name__ == "__main__":
    launch(main, Config)
