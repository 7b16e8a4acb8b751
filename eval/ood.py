"""Turn the rollouts of the out-of-distribution axes into `summary.json` and one self-contained `report.html`.

python -m eval.ood runs/ood
"""

import json
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from eval import figures
from eval.episodes import read_episodes
from eval.lifting import policy_sensitivity
from eval.sheets import heatmap_sheet
from eval.statistics import paired, table, wilson95_grouped
from eval.suites import SPLITS, TRAINED_ON, Split
from videopolicy.camera import Camera
from videopolicy.config import from_dict, launch_on_folder
from videopolicy.data.dataset import DataConfig, split_episodes
from videopolicy.data.files import read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import selected
from videopolicy.errors import BadInput
from videopolicy.provenance import provenance
from videopolicy.rates import rates
from videopolicy.training import checkpoint

TITLES = {
    "left_right": "Left → right: trained on the left half of the table, tested on the right",
    "near_far": "Near → far: trained near the robot, tested far from it",
    "viewpoint": "Default → all viewpoints: trained with one camera, tested with 57",
    "hemisphere": "Hemisphere: trained with cameras on one side, tested on the other",
    "distractors": "Distractors: trained on a clear table, tested among LIBERO's objects and furniture",
    "distractors_one_bowl": "Distractors without the second, identical bowl",
    "corners_32": "32 demonstrations in the corners, tested elsewhere",
    "dense_64": "64 demonstrations spread over the table, tested elsewhere",
}


@dataclass
class Axis:
    """Everything rolled out on one axis with one executor."""

    name: Split
    executor: str
    folder: Path
    runs: dict[str, str]  # policy to its training run
    records: list[dict] = field(default_factory=list)

    @property
    def policies(self) -> list[str]:
        return [name for name in self.runs if self.of(name)]

    def of(self, policy: str) -> list[dict]:
        return [r for r in self.records if r["policy"] == policy]


def main(root: Path) -> dict:
    axes = open_axes(root)
    rows = [_row(axis, policy) for axis in axes for policy in axis.policies]
    summary = {
        "rows": [r for r in rows if r["executor"] == "teleport"],
        "osc": [r for r in rows if r["executor"] == "osc"],
        "oracle": [_row(axis, "oracle") for axis in axes if axis.of("oracle")],
        "paired": [pair for axis in axes for pair in _pairs(axis, rows)],
        "per_theta": [row for axis in axes if axis.name in ("viewpoint", "hemisphere") for row in _per_theta(axis)],
        "step_cap": sorted({row["step_cap"] for row in rows}),
        "restarts": sum(r["restarts"] for axis in axes for r in axis.records),
        "trained_at": sorted({commit for row in rows for commit in row.get("trained_at", [])}),
        "rolled_out_at": sorted({commit for row in rows for commit in row["commits"]}),
        **provenance(),
    }
    runs = dict.fromkeys(Path(run) for axis in axes for run in axis.runs.values())
    summary["sensitivity"] = policy_sensitivity(runs, _lowest_camera(axes))
    templates = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent))
    page = templates.get_template("ood.html.j2")
    html = page.render(
        summary=summary,
        titles=TITLES,
        sections=[_section(axis, rows) for axis in axes if axis.executor == "teleport"],
        command=f"python -m eval.ood {root}",
    )
    (root / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (root / "report.html").write_text(html)
    print(table(rows + summary["oracle"], {"axis": 20, "policy": 17, "executor": 8}))
    print(f"report: {root / 'report.html'}")
    return summary


def open_axes(root: Path) -> list[Axis]:
    """The axes rolled out under `root/rollout/`, in the suite's order, the teleport servo before plain control."""
    found: dict[tuple[str, str], Axis] = {}
    for folder in sorted((root / "rollout").glob("*/")):
        records = read_episodes(folder)
        if not records:
            continue
        if not (folder / "config.yaml").is_file():
            raise BadInput(f"{folder} has episodes but no config.yaml, which names their policies and their executor")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        if strangers := sorted({r["policy"] for r in records} - {*config["policies"], "oracle"}):
            raise BadInput(
                f"{folder}/episodes.jsonl has {strangers}; allowed: config.yaml's {list(config['policies'])}"
            )
        for split in dict.fromkeys(r["split"] for r in records):
            if split not in SPLITS:
                raise BadInput(f"{folder} holds {split!r}, which is no axis; allowed: {', '.join(SPLITS)}")
            key = (split, config["executor"])
            if key in found:
                raise BadInput(f"{folder} and {found[key].folder} both hold {split} with executor {key[1]}")
            mine = [r for r in records if r["split"] == split]
            found[key] = Axis(split, config["executor"], folder, config["policies"], mine)
    if not found:
        raise BadInput(f"no finished episodes under {root}/rollout/*/episodes.jsonl; run eval.rollout first")
    order = {name: i for i, name in enumerate((*TITLES, *SPLITS))}
    return sorted(found.values(), key=lambda axis: (axis.executor != "teleport", order[axis.name]))


def _row(axis: Axis, policy: str) -> dict:
    records = axis.of(policy)
    names = {"axis": axis.name, "policy": policy, "executor": axis.executor, "step_cap": records[0]["step_cap"]}
    placed, groups = [r["outcome"] == "place" for r in records], [r["group"] for r in records]
    return {
        **names,
        **rates([r["outcome"] for r in records]),
        "n_groups": len(set(groups)),
        "wilson95_grouped": list(wilson95_grouped(placed, groups)),
        "commits": sorted({r["commit"] for r in records}),
        **(_training(Path(axis.runs[policy])) if policy in axis.runs else {}),
    }


def _training(run: Path) -> dict:
    """What a policy was trained with."""
    if not run.is_dir():
        return {}
    found = checkpoint.find(run)
    config, state = checkpoint.read_config(found), checkpoint.read_state(found)
    metrics = read_jsonl(run / "metrics.jsonl")
    seconds = [m["seconds"] for m in metrics if "seconds" in m]
    return {
        "demonstrations": _n_demonstrations(config["data"]),
        "head": config["head"]["kind"],
        "augment": config.get("augment", {}).get("kind", "none"),
        "copies": config.get("augment", {}).get("copies", 0.0),
        "steps": state["step"],
        "minutes": round(seconds[-1] / 60, 1) if seconds else None,
        "seed": config["train"]["seed"],
        "trained_at": state.get("commits", []),
    }


def _n_demonstrations(data: dict) -> int | None:
    """How many demonstrations a policy's `data` took; None where the dataset is gone."""
    dataset = _dataset(data["root"])
    return None if dataset is None else len(split_episodes(dataset, from_dict(DataConfig, data))[0])


@cache
def _dataset(root: str) -> Dataset | None:
    """The dataset that policies were trained on; None where it is gone."""
    return Dataset(Path(root)) if (Path(root) / "meta/info.json").is_file() else None


def _pairs(axis: Axis, rows: list[dict]) -> list[dict]:
    """McNemar's test for every two policies that were trained on the same demonstrations."""
    found, numbers = [], _numbers(axis, rows)
    for first, second in combinations(axis.policies, 2):
        if numbers.get(first) != numbers.get(second):
            continue
        a, b = ({(r["split"], r["episode"]): r["outcome"] for r in axis.of(p)} for p in (first, second))
        groups = {(r["split"], r["episode"]): r["group"] for r in axis.records}
        if (result := paired(a, b, groups)) is not None:
            found.append({"axis": axis.name, "executor": axis.executor, "first": first, "second": second, **result})
    return found


def _per_theta(axis: Axis) -> list[dict]:
    found = []
    for policy in axis.policies:
        for theta in sorted({r["view"][0] for r in axis.of(policy)}):
            outcomes = [r["outcome"] for r in axis.of(policy) if r["view"][0] == theta]
            head = {"axis": axis.name, "executor": axis.executor, "policy": policy, "theta": theta}
            found.append(head | rates(outcomes))
    return found


def _lowest_camera(axes: list[Axis]) -> dict[str, Camera]:
    """The test camera that stands lowest, by name; none where no axis moves cameras."""
    moved = {axis.name: [r for r in axis.records if r.get("view")] for axis in axes}
    found = [
        (Camera.from_json(r["camera"]), f"lowest of {name} ({r['view'][0]:.1f}°, {r['view'][1]:.0f}°)")
        for name, records in moved.items()
        for r in records
    ]
    if not found:
        return {}
    camera, name = min(found, key=lambda each: each[0].position[2])
    return {name: camera}


def _numbers(axis: Axis, rows: list[dict]) -> dict[str, int]:
    """Policy to the number of demonstrations that it was trained on, where that is known."""
    mine = [r for r in rows if (r["axis"], r["executor"]) == (axis.name, axis.executor)]
    return {r["policy"]: r["demonstrations"] for r in mine if r.get("demonstrations")}


def _section(axis: Axis, rows: list[dict]) -> dict:
    """Figures of one axis, whose rows of the table are among `rows`."""
    # Policies trained on fewer demonstrations stand in the table and in the curve over their number alone.
    numbers = _numbers(axis, rows)
    policies = [p for p in axis.policies if numbers.get(p) in (None, max(numbers.values(), default=0))]
    mine = [r for r in axis.records if r["policy"] in policies]
    section: dict[str, Any] = {"name": axis.name, "title": TITLES.get(axis.name, axis.name)}
    if axis.name in ("viewpoint", "hemisphere"):
        labels = {t: f"{t:.1f}°" for t in sorted({r["view"][0] for r in mine})}
        xlabel = "angle between the test camera and LIBERO's own"
        section["curve"] = figures.rate_figure(mine, policies, lambda r: r["view"][0], labels, xlabel)
        section["polar"] = figures.polar_figure(mine, policies)
        section["thetas"] = sorted(labels)
        cells = _per_theta(axis)
        section["per_theta"] = [(p, [r for r in cells if r["policy"] == p]) for p in policies]
    elif not axis.name.startswith("distractors"):
        labels = {b: f"{5 * b:.0f} to {5 * b + 5:.0f}" for b in sorted({_bin(r) for r in mine})}
        xlabel = "distance to the nearest training position [cm]"
        section["curve"] = figures.rate_figure(mine, policies, _bin, labels, xlabel)
    if len(set(numbers.values())) > 1:
        known = [r for r in rows if (r["axis"], r["executor"]) == (axis.name, axis.executor) and r["policy"] in numbers]
        section["efficiency"] = figures.efficiency_figure(known, _recipe)
    trained = _trained_positions(axis)
    if trained is not None and mine[0]["init_state"] is None:
        section["map"] = figures.position_map(mine, policies, trained)
    section["grids"] = [(p, figures.rollout_grid(axis.folder, axis.of(p), f"{p}_{axis.name}")) for p in policies]
    sheets = (heatmap_sheet(axis.folder, Path(axis.runs[p]), axis.of(p)) for p in policies)
    section["heatmaps"] = next((sheet for sheet in sheets if sheet is not None), None)
    return section


def _recipe(row: dict) -> str:
    more = "+copies" if row["copies"] else "+camera" if row["augment"] == "camera" else ""
    return str(row["head"]) + more


def _bin(record: dict) -> float:
    return float(np.floor(100 * record["distance"] / 5))


def _trained_positions(axis: Axis) -> np.ndarray | None:
    """Where the bowl stood in the demonstrations trained on."""
    for run in axis.runs.values():
        if Path(run).is_dir():
            data = checkpoint.read_config(checkpoint.find(Path(run)))["data"]
            if (dataset := _dataset(data["root"])) is None:
                continue
            extras = dataset.extras()
            chosen = selected(TRAINED_ON.get(axis.name, data["select"]), extras, len(dataset), dataset.root)
            return np.array([extras[e]["bowl_xy"] for e in chosen])
    return None


if __name__ == "__main__":
    launch_on_folder(main, "python -m eval.ood FOLDER (that holds rollout/*/episodes.jsonl)")
