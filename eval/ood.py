"""Turn the rollouts of the out-of-distribution axes into `summary.json` and one self-contained `report.html`.

python -m eval.ood runs/ood
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eval import figures
from eval.axis import TITLES, Axis, open_axes, open_dataset
from eval.episodes import shift_of
from eval.lifting import policy_sensitivity
from eval.sheets import heatmap_sheet
from eval.statistics import paired, rates_of, table
from eval.suites import N_VIEW
from videopolicy.camera import Camera
from videopolicy.config import from_dict, launch_on_folder
from videopolicy.data.dataset import DataConfig, split_episodes
from videopolicy.data.files import read_jsonl, write_json
from videopolicy.provenance import provenance
from videopolicy.rates import rates
from videopolicy.training import checkpoint
from videopolicy.viz.pages import page

BIN = 5  # [cm] of distance to the nearest training position


def main(root: Path) -> dict:
    axes = open_axes(root)
    rows = [_row(axis, policy) for axis in axes for policy in axis.policies]
    summary = {
        "rows": [r for r in rows if r["executor"] == "teleport"],
        "osc": [r for r in rows if r["executor"] == "osc"],
        "oracle": [_row(axis, "oracle") for axis in axes if axis.of("oracle")],
        "paired": [pair for axis in axes for pair in _pairs(axis, rows)],
        "per_theta": [row for axis in axes if axis.name in N_VIEW for row in _grouped(axis, "theta")],
        "by_distance": [row for axis in axes if _by_distance(axis) for row in _grouped(axis, "distance_cm")],
        "step_cap": sorted({row["step_cap"] for row in rows}),
        "restarts": sum(r["restarts"] for axis in axes for r in axis.records),
        "trained_at": sorted({commit for row in rows for commit in row.get("trained_at", [])}),
        "rolled_out_at": sorted({commit for row in rows for commit in row["commits"]}),
        **provenance(),
    }
    runs = dict.fromkeys(Path(run) for axis in axes for run in axis.runs.values())
    summary["sensitivity"] = policy_sensitivity(runs, _lowest_camera(axes))
    html = page(
        Path(__file__).with_name("ood.html.j2"),
        summary=summary,
        sections=[_section(axis, rows) for axis in axes if axis.executor == "teleport"],
        command=f"python -m eval.ood {root}",
    )
    write_json(root / "summary.json", summary)
    (root / "report.html").write_text(html)
    print(table(rows + summary["oracle"], {"axis": 20, "policy": 17, "executor": 8}))
    print(f"report: {root / 'report.html'}")
    return summary


def _row(axis: Axis, policy: str) -> dict:
    records = axis.of(policy)
    names = {"axis": axis.name, "policy": policy, "executor": axis.executor, "step_cap": records[0]["step_cap"]}
    return {
        **names,
        **shift_of(records),
        **rates_of(records),
        "n_groups": len({r["group"] for r in records}),
        "confidence": _confidence(records),
        "n_execute": records[0]["n_execute"],
        "commits": sorted({r["commit"] for r in records}),
        **(_training(Path(axis.runs[policy])) if policy in axis.runs else {}),
    }


def _confidence(records: list[dict]) -> dict[str, float | None]:
    """Mean over the chunks that say how sure they were, of episodes that were placed and of others; None without."""
    found = {}
    for name, wanted in (("placed", True), ("others", False)):
        said = [c for r in records if (r["outcome"] == "place") == wanted for c in r["confidence"] if c is not None]
        found[name] = round(float(np.mean(said)), 3) if said else None
    return found


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
    dataset = open_dataset(data["root"])
    return None if dataset is None else len(split_episodes(dataset, from_dict(DataConfig, data))[0])


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


def _by_distance(axis: Axis) -> bool:
    """Whether it is positions that an axis moves."""
    return axis.name not in N_VIEW and not axis.name.startswith("distractors")


GROUPS = {"theta": lambda r: r["view"][0], "distance_cm": lambda r: BIN * float(np.floor(100 * r["distance"] / BIN))}


def _grouped(axis: Axis, by: str) -> list[dict]:
    """Rates of each policy by the camera's angle [degrees], or by where a 5 cm wide bin of distances begins."""
    found = []
    for policy in axis.policies:
        for value in sorted({GROUPS[by](r) for r in axis.of(policy)}):
            outcomes = [r["outcome"] for r in axis.of(policy) if GROUPS[by](r) == value]
            head = {"axis": axis.name, "executor": axis.executor, "policy": policy, by: value}
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
    section: dict[str, Any] = dict.fromkeys(("curve", "polar", "map", "efficiency", "heatmaps", "columns"))
    section |= {"name": axis.name, "title": TITLES.get(axis.name, axis.name)}
    trained = axis.trained_on()
    by = "theta" if axis.name in N_VIEW else "distance_cm" if _by_distance(axis) else None
    if by is not None:
        values = sorted({GROUPS[by](r) for r in mine})
        labels = {v: f"{v:.1f}°" if by == "theta" else f"{v:.0f} to {v + BIN:.0f}" for v in values}
        section["curve"] = figures.rate_figure(mine, policies, GROUPS[by], labels, XLABELS[by])
        cells = {(r["policy"], r[by]): r for r in _grouped(axis, by)}
        section["columns"] = [f"{labels[v]}{' cm' if by == 'distance_cm' else ''}" for v in values]
        section["by_group"] = [(p, [cells.get((p, v)) for v in values]) for p in policies]
    if axis.name in N_VIEW:
        seen_by = [(e.get("theta", 0.0), e.get("phi", 0.0)) for e in trained or []]
        section["polar"] = figures.polar_figure(mine, policies, seen_by)
    if len(set(numbers.values())) > 1:
        known = [r for r in rows if (r["axis"], r["executor"]) == (axis.name, axis.executor) and r["policy"] in numbers]
        section["efficiency"] = figures.efficiency_figure(known, _recipe)
    if trained and mine[0]["init_state"] is None:
        section["map"] = figures.position_map(mine, policies, np.array([e["bowl_xy"] for e in trained]))
    section["confidence"] = [(p, _confidence(axis.of(p))) for p in policies]
    section["grids"] = [(p, figures.rollout_grid(axis.folder, axis.of(p), f"{p}_{axis.name}")) for p in policies]
    sheets = ((p, heatmap_sheet(axis.folder, Path(axis.runs[p]), axis.of(p))) for p in policies)
    section["heatmaps"] = next((each for each in sheets if each[1] is not None), None)
    return section


XLABELS = {
    "theta": "angle between the test camera and LIBERO's own",
    "distance_cm": "distance to the nearest training position [cm]",
}


def _recipe(row: dict) -> str:
    more = "+copies" if row["copies"] else "+camera" if row["augment"] == "camera" else ""
    return str(row["head"]) + more


if __name__ == "__main__":
    launch_on_folder(main, "python -m eval.ood FOLDER (that holds rollout/*/episodes.jsonl)")
