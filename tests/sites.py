"""A folder of small runs of every kind, as programs leave them, for the site that shows them."""

import json
import shutil
from pathlib import Path

import numpy as np
import yaml
from builders import agentview, background, write_dataset
from PIL import Image

from eval import ood, rollout
from eval.suites import Split, trials
from robot import sheet
from videopolicy.config import dump
from videopolicy.data.files import append_jsonl
from videopolicy.data.video import write_video
from videopolicy.viz.draw import save_clip_comparison

TRAINED = [[-0.35, -0.25], [-0.05, -0.05], [-0.2, -0.15]]  # where the bowl stood in three demonstrations
OUTCOMES = ("place", "grasp", "miss", "place", "place")
PICTURE = background()


def make(root: Path, n: int = 10) -> Path:
    """`root/runs` and `root/data`; `n` episodes of each policy on an axis. Two suites' reports are left to make."""
    runs = root / "runs"
    names = {"para": str(runs / "ood/left/para"), "regression": str(runs / "ood/left/regression")}
    for executor in ("teleport", "osc"):
        evaluation(runs / f"ood/rollout/left_right_{executor}", "left_right", names, executor, n)
    evaluation(runs / "ood/rollout/hemisphere", "hemisphere", {"para": names["para"]}, "teleport", n)
    ood.main(runs / "ood")
    for path in (runs / "ood/rollout/left_right_teleport/videos").glob("regression_*"):
        path.unlink()
    evaluation(runs / "light/rollout", "seen", {"para": "runs/light/para"}, "teleport", 4)

    def placed(number: int, one: object) -> object:
        one.extra["bowl_xy"] = TRAINED[number]  # type: ignore[attr-defined]
        return one

    write_dataset(root / "data", change=placed)  # type: ignore[arg-type]
    training(runs / "ood/left/para", root / "data")
    for seed in range(2):
        for i in range(5):
            append(runs / "fewshot/rollout/10", line(f"para_3d_10_{seed}", "few_shot", i, OUTCOMES[i]))
    (runs / "fewshot/rollout/10/cell.json").write_text(json.dumps({"trained_at": ["c"], "tuning.train.n_steps": 3}))
    twin(runs / "demo_robot/trials/in_distribution")
    (runs / "bench").mkdir()
    rows = [{"name": "factored_loss", "memory_ratio": 61.25, "time_ratio": None}]
    (runs / "bench/heads.json").write_text(json.dumps({"rows": rows}))
    return runs


def line(policy: str, split: str, number: int, outcome: str) -> dict:
    """What every line of an evaluation says."""
    about = {"seed": 100 + number, "group": number % 5, "commit": "c0ffee1", "dataset": "d", "code": "x"}
    return {"policy": policy, "split": split, "episode": number, "outcome": outcome, "digest": policy, **about}


def append(folder: Path, record: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    append_jsonl(folder / "episodes.jsonl", record)


def evaluation(folder: Path, split: Split, policies: dict[str, str], executor: str, n: int) -> None:
    """Episodes of the split's own positions and cameras, each with a video, and the oracle's first one."""
    folder.mkdir(parents=True)
    cfg = rollout.Config(folder, policies, n_episodes=n, n_oracle=1, splits=(split,), executor=executor)
    (folder / "config.yaml").write_text(dump(cfg))
    (folder / "videos").mkdir()
    found = trials(split, n, 1000, np.array(TRAINED), "both")
    for shift, name in enumerate((*policies, "oracle")):
        for i, trial in enumerate(found[:1] if name == "oracle" else found):
            outcome = "place" if name == "oracle" else OUTCOMES[(i + shift * (i // 2 + 2)) % 5]
            record = line(name, split, i, outcome) | trial.record() | {"executor": executor, "step_cap": 600}
            record |= {"n_execute": 4, "ensemble": None, "restarts": 0, "camera": agentview().to_json()}
            record |= {"start": [-0.12, 0.0, 0.2], "chunks": 3, "control_steps": 90 + i, "confidence": [0.5]}
            record |= {"final": {"bowl": [*record["bowl_xy"], 0.01], "plate": [0.0, 0.0, 0.0]}}
            append_jsonl(folder / "episodes.jsonl", record)
            frames = np.stack([np.roll(PICTURE, 8 * t + i, 1) for t in range(4)])
            write_video(folder / f"videos/{name}_{split}_{i:03d}.mp4", frames, 4)


def training(run: Path, data: Path) -> None:
    """Metrics, previews and a checkpoint's configuration; no weights."""
    step = run / "step_000040"
    step.mkdir(parents=True)
    settings = {"data": {"root": str(data), "n_val_episodes": 1}, "head": {"kind": "para"}}
    (step / "config.json").write_text(json.dumps(settings))
    (step / "state.json").write_text(json.dumps({"step": 40, "optimizer": [], "commits": ["c0ffee1"]}))
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    for i in range(40):
        losses = {"total": 8.0 / (1 + i), "spatial": 6.0 / (1 + i), "seconds": 3.0 * i}
        append_jsonl(run / "metrics.jsonl", {"step": i, **losses})
        if i % 20 == 19:
            append_jsonl(run / "metrics.jsonl", {"step": i, "val/position_mm": 300.0 / i, "val/pixel": 2.5})
    clips = np.stack([[np.roll(PICTURE, 6 * t, 1) for t in range(4)]] * 2)
    (run / "previews").mkdir()
    for number in (20, 40):
        save_clip_comparison(run / f"previews/clips_{number:06d}.png", clips, clips[:, :, ::-1])
        panels = np.concatenate([np.stack([PICTURE] * 4), clips[0]], 2)
        write_video(run / f"previews/clips_{number:06d}.mp4", panels, 4)
    Image.fromarray(PICTURE).save(run / "previews/step_000040.png")


def twin(folder: Path) -> None:
    folder.mkdir(parents=True)
    for i in range(6):
        found = {"condition": folder.name, "episode": i, "cup": [0.2, 0.02 * i], "saucer": [0.2, -0.1], "mode": "run"}
        found |= {"place": i % 3 > 0, "grasp": i > 0, "n_chunks": 7, "seconds": 9.0, "why": ""}
        append_jsonl(folder / "para.jsonl", found)
    sheet.write(folder / "para.jpg", [[PICTURE] * 3] * 4, [sheet.PLACED] * 4)


def damaged(runs: Path, to: Path) -> Path:
    """A copy of the runs in which one of every kind cannot be read, and one report has no picture any more."""
    shutil.copytree(runs, to, ignore=shutil.ignore_patterns("site"))
    for name, text in (
        ("ood/left/para/metrics.jsonl", "{]\n{}"),
        ("light/rollout/episodes.jsonl", '{"policy": 1}\n'),
        ("bench/heads.json", "[1]"),
        ("demo_robot/summary.json", "{"),
    ):
        (to / name).write_text(text)
    (to / "demo_robot/trials/in_distribution/para.jsonl").write_text("[]\n{}\n")
    return to
