"""What came of the demo on the twin: a table, summary.json and report.html.

python -m robot.summary runs/demo_robot
"""

import argparse
from pathlib import Path
from typing import Any

from robot.lifting import policy_sensitivity
from robot.program import start
from robot.trials import LIMIT, ON
from videopolicy.data.files import read_json, read_jsonl, reading, replace, write_json
from videopolicy.errors import BadInput
from videopolicy.names import label
from videopolicy.provenance import provenance
from videopolicy.rates import wilson95
from videopolicy.viz.pages import page

# Of the method's own paper, on a real arm: per cent of pixel-aligned actions and of ACT.
PAPER = {
    "in_distribution": (97, 9),
    "new_viewpoint": (52, 0),
    "new_viewpoint_5_demos": (87, 4),
    "new_environment": (94, 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    found = summary(args.folder)
    sheets = [
        (row["condition"], row["policy"], f"trials/{row['condition']}/{row['policy']}.jpg")
        for row in found["rows"]
        if (args.folder / f"trials/{row['condition']}/{row['policy']}.jpg").exists()
    ]
    write_json(args.folder / "summary.json", found)
    template = Path(__file__).with_name("summary.html.j2")
    html = page(template, summary=found, sheets=sheets, limit=LIMIT, on=1000 * ON)
    replace(args.folder / "report.html", lambda path: path.write_text(html))
    print(f"{'condition':24}{'policy':24}{'n':>4}{'place %':>9}{'Wilson 95 %':>15}{'grasp %':>9}   on a real arm")
    for row in [*found["rows"], *found["oracle"]]:
        low, high = row["wilson95"]
        real = "" if row["paper"] is None else f"{row['paper']:6} %"
        print(
            f"{row['condition']:24}{label(row['policy']):24}{row['n']:4}{row['place']:9.1f}{f'{low:.1f}-{high:.1f}':>15}"
            f"{row['grasp']:9.1f}   {real}"
        )
    print(f"{args.folder / 'report.html'}, {args.folder / 'summary.json'}")


def summary(folder: Path) -> dict[str, Any]:
    """`BadInput` where there are no trials, or where an episode stands twice."""
    rows = []
    for condition in PAPER:
        files = sorted((folder / "trials" / condition).glob("*.jsonl"))
        rows += [row(condition, path.stem, read_jsonl(path), path) for path in files]
    oracle = [r for r in rows if r["policy"] == "oracle"]
    rows = [r for r in rows if r["policy"] != "oracle"]
    if not rows:
        raise BadInput(f"no trials in {folder / 'trials'}: python -m robot.trials")
    names = {"first": "calibration_error.json", "moved": "calibration_moved_error.json"}
    cameras = {name: _camera(folder / file) for name, file in names.items() if (folder / file).exists()}
    seconds = _seconds(folder / "steps.jsonl") if (folder / "steps.jsonl").exists() else {}
    found = {"rows": rows, "oracle": oracle, "calibration": cameras, "seconds": seconds}
    found["rolled_out_at"] = sorted({commit for r in [*rows, *oracle] for commit in r["commits"]})
    return {**found, "sensitivity": policy_sensitivity(folder), **provenance()}


def _camera(path: Path) -> dict[str, float]:
    with reading(path):
        found = read_json(path)
        return {name: float(found[name]) for name in ("position_mm", "rotation_deg", "reprojection_px")}


def _seconds(path: Path) -> dict[str, float]:
    with reading(path):
        return {step["name"]: float(step["seconds"]) for step in read_jsonl(path) if step["status"] == 0}


def row(condition: str, policy: str, lines: list[dict], where: Path) -> dict[str, Any]:
    n = len(lines)
    with reading(where):
        n_episodes = len({line["episode"] for line in lines})
    if n_episodes != n or n == 0:
        raise BadInput(f"{where} has {n} lines of {n_episodes} episodes; remove it")
    with reading(where):
        n_placed = sum(line["place"] for line in lines)
        n_grasped = sum(line["grasp"] for line in lines)
        n_stopped = sum(line["mode"] != "run" for line in lines)
    paper = dict(zip(("para", "regression"), PAPER[condition], strict=True)).get(policy)
    return {
        "condition": condition,
        "policy": policy,
        "n": n,
        "place": round(100 * n_placed / n, 1),
        "grasp": round(100 * n_grasped / n, 1),
        "wilson95": list(wilson95(n_placed, n)),
        "grasp_wilson95": list(wilson95(n_grasped, n)),
        "stopped": n_stopped,
        "paper": paper,
        "commits": sorted({line["commit"] for line in lines if "commit" in line}),
    }


if __name__ == "__main__":
    start(main)
