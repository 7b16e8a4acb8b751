"""Turn a demo's runs into `summary.json` and one self-contained `report.html`.

python -m eval.report runs/demo
"""

from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from eval.episodes import read_episodes, shift_of
from eval.figures import embed_figure, embed_file, rate_figure, rollout_grid
from eval.lifting import policy_sensitivity
from eval.positions import HALVES
from eval.statistics import table
from videopolicy.config import launch_on_folder
from videopolicy.data.files import read_json, read_jsonl, write_json
from videopolicy.errors import BadInput
from videopolicy.provenance import provenance
from videopolicy.rates import rates
from videopolicy.training import checkpoint
from videopolicy.viz.pages import page


def main(folder: Path) -> dict:
    records = read_episodes(folder / "rollout")
    if not records:
        raise BadInput(f"no finished episodes in {folder / 'rollout' / 'episodes.jsonl'}; run eval.rollout first")
    records = [r for r in records if r["split"] in HALVES]
    _check_comparable(folder)
    records.sort(key=lambda r: (r["policy"], r["split"], r["episode"]))
    policies = [p for p in dict.fromkeys(r["policy"] for r in records) if p != "oracle"]
    policies.sort(key=lambda name: "para" not in name)
    rows = [row for p in policies for s in HALVES if (row := _row(records, p, s))]
    oracle = [row for s in HALVES if (row := _row(records, "oracle", s))]
    labels = {i: f"{10 * i - 10:.0f} to {10 * i:.0f} cm" if i else "trained half" for i in map(_beyond, records)}
    steps = read_jsonl(folder / "steps.jsonl")
    seconds: dict[str, float] = {}
    for step in steps:
        seconds[step["name"]] = round(seconds.get(step["name"], 0.0) + step["seconds"], 1)
    summary = {
        "rows": rows,
        "oracle": oracle,
        "by_distance": [
            {"policy": p, "beyond_cm": labels[x], **rates(outcomes)}
            for p in policies
            for x in sorted(labels)
            if (outcomes := [r["outcome"] for r in records if r["policy"] == p and _beyond(r) == x])
        ],
        "seconds": seconds,
        "peak_gib": {s["name"]: s["peak_gib"] for s in steps},
        "executor": sorted({r["executor"] for r in records}),
        "step_cap": sorted({r["step_cap"] for r in records}),
        "restarts": sum(r["restarts"] for r in records),
        "validation": {run.name: _last_validation(run) for run in sorted(folder.glob("joint_*"))},
        "rolled_out_at": sorted({r["commit"] for r in records}),
        "sensitivity": policy_sensitivity(sorted(folder.glob("joint_*")), {}),
        **provenance(),
    }
    write_json(folder / "summary.json", summary)
    cells = {(r["policy"], r["beyond_cm"]): r for r in summary["by_distance"]}
    html = page(
        Path(__file__).with_name("report.html.j2"),
        summary=summary,
        command=" ".join(["python -m eval.report", str(folder)]),
        columns=[labels[x] for x in sorted(labels)],
        by_distance=[(p, [cells.get((p, labels[x])) for x in sorted(labels)]) for p in policies],
        distance=rate_figure(records, policies, _beyond, labels, "distance beyond the training boundary"),
        heatmaps=_newest_preview(folder / "joint_para", "step"),
        clips=_newest_preview(folder / "video", "clips"),
        grids=[
            (p, s, rollout_grid(folder / "rollout", chosen, f"{p}_{s}"))
            for p in policies
            for s in HALVES
            if (chosen := [r for r in records if (r["policy"], r["split"]) == (p, s)])
        ],
        losses=_loss_plot(folder),
    )
    (folder / "report.html").write_text(html)
    print(table([*rows, *oracle], {"policy": 12, "split": 7}))
    print(f"report: {folder / 'report.html'}")
    return summary


def _check_comparable(folder: Path) -> None:
    """Refuse to set policies side by side that differ in more than their head."""
    states = {run.name: read_json(checkpoint.find(run) / "state.json") for run in sorted(folder.glob("joint_*"))}
    for key in ("stage_one", "step"):
        if len({state[key] for state in states.values()}) > 1:
            values = ", ".join(f"{name} {state[key]}" for name, state in states.items())
            raise BadInput(f"the policies in {folder} differ in {key!r}, so their rates cannot be compared: {values}")


def _row(records: list[dict], policy: str, split: str) -> dict | None:
    mine = [r for r in records if (r["policy"], r["split"]) == (policy, split)]
    return {"policy": policy, "split": split, **shift_of(mine), **rates([r["outcome"] for r in mine])} if mine else None


def _beyond(record: dict) -> float:
    """Which 10 cm beyond the trained half; 0 on it."""
    return float(np.ceil(record["distance"] / 0.10))


def _loss_plot(folder: Path) -> str:
    """Stage-one loss in training and per noise level in validation, and stage two's validation in millimetres."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    video = read_jsonl(folder / "video" / "metrics.jsonl")
    trained = [(m["step"], m["diffusion"]) for m in video if "diffusion" in m]
    if trained:
        left.plot(*zip(*trained, strict=True), color="0.7", label="training")
    for key in sorted(
        {k for m in video for k in m if k.startswith("val/diffusion")}, key=lambda k: float(k.split("_")[-1])
    ):
        left.plot(
            [m["step"] for m in video if key in m],
            [m[key] for m in video if key in m],
            "o-",
            label=f"sigma {key.split('_')[-1]}",
        )
    left.set(xlabel="stage-one step", ylabel="v-loss; points: held-out episodes")
    for run in sorted(folder.glob("joint_*")):
        points = [
            (m["step"], m["val/position_mm"]) for m in read_jsonl(run / "metrics.jsonl") if "val/position_mm" in m
        ]
        if points:
            right.plot(*zip(*points, strict=True), "o-", label=run.name)
    right.set(xlabel="stage-two step", ylabel="waypoint error [mm], held-out episodes")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7)
    return embed_figure(figure)


def _newest_preview(run: Path, kind: str) -> str | None:
    pictures: Iterable[Path] = sorted((run / "previews").glob(f"{kind}_*.png"))
    newest = max(pictures, default=None)
    return embed_file(newest, "image/png") if newest else None


def _last_validation(run: Path) -> dict:
    found = [m for m in read_jsonl(run / "metrics.jsonl") if "val/position_mm" in m]
    return {k.removeprefix("val/"): round(v, 3) for k, v in found[-1].items() if k.startswith("val/")} if found else {}


if __name__ == "__main__":
    launch_on_folder(main, "python -m eval.report FOLDER (that holds rollout/, video/ and joint_*/)")
