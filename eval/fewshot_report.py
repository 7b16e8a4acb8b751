"""The tables of few-shot tuning as `summary.json` and `report.html`, and how circles transfer before any tuning."""

import json
from pathlib import Path

from eval import fewshot_oracle, figures
from eval.episodes import read_episodes
from eval.statistics import table, wilson95_grouped
from eval.zero_shot import heatmap_errors, transfer_sheet
from videopolicy.errors import BadInput
from videopolicy.provenance import provenance
from videopolicy.rates import rates
from videopolicy.viz.pages import page

# Per cent placed of the method's results page, one seed, n unstated. It has two columns of 2-D pretraining, which
# contradict each other; these are those beside which it has the grasps.
PAPER = {
    ("para", "2d"): {1: 3, 3: 5, 5: 15, 10: 3, 20: 39},
    ("para", "3d"): {1: 0, 3: 0, 5: 21, 10: 66, 20: 64},
    ("para", "scratch"): {1: 0, 3: 7, 5: 7, 10: 10, 20: 29, 256: 83},
    ("regression", "2d"): {1: 0, 3: 1, 5: 2, 10: 24, 20: 50},
    ("regression", "3d"): {1: 0, 3: 0, 5: 0, 10: 21, 20: 72},
    ("regression", "scratch"): {1: 0, 3: 0, 5: 0, 10: 6, 20: 44},
}
ORDER = ("scratch", "2d", "3d")


def report(folder: Path, robot: Path, circles: Path) -> dict:
    """Of all cells that were rolled out under `folder`; `BadInput` where there are none."""
    records = [r for place in sorted((folder / "rollout").glob("*/")) for r in read_episodes(place)]
    if not records:
        raise BadInput(f"no episodes under {folder}/rollout/*/episodes.jsonl; run eval.fewshot first")
    rows = _rows(records)
    zero_shot = heatmap_errors(folder / "pretrain", robot, circles)
    summary = {
        "rows": rows,
        "zero_shot": zero_shot,
        **fewshot_oracle.read(folder),
        "rolled_out_at": sorted({r["commit"] for r in records}),
        **provenance(),
    }
    curves = [
        (kind, figures.efficiency_figure(_line(rows, kind), lambda r: str(r["pretrain"])))
        for kind in dict.fromkeys(r["policy"] for r in rows)
    ]
    sheets = transfer_sheet(folder / "pretrain", robot, circles)
    html = page(Path(__file__).with_name("fewshot.html.j2"), summary=summary, curves=curves, sheets=sheets)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "report.html").write_text(html)
    ceiling = [{"pretrain": "", "demos": "", **row} for row in summary["oracle"]]
    print(table(rows + ceiling, {"policy": 11, "pretrain": 8, "demos": 5}))
    for row in zero_shot:
        print(f"{row['run']} on {row['scenes']}: {row['pixel']:.1f} px ({row['n']} clips)")
    print(f"report: {folder / 'report.html'}")
    return summary


def _rows(records: list[dict]) -> list[dict]:
    """Of each head, pretraining and number of demonstrations, all seeds together."""
    cells: dict[tuple[str, str, int], list[dict]] = {}
    for record in records:
        kind, pretrain, demos, seed = record["policy"].rsplit("_", 3)
        cells.setdefault((kind, pretrain, int(demos)), []).append({**record, "seed_of_tuning": int(seed)})
    rows = []
    for (kind, pretrain, demos), its in sorted(cells.items(), key=lambda x: (x[0][0], x[0][2], ORDER.index(x[0][1]))):
        seeds = sorted({r["seed_of_tuning"] for r in its})
        outcomes = {s: [r["outcome"] for r in its if r["seed_of_tuning"] == s] for s in seeds}
        placed = [r["outcome"] == "place" for r in its]
        rows.append(
            {
                "policy": kind,
                "pretrain": pretrain,
                "demos": demos,
                **rates([r["outcome"] for r in its]),
                "wilson95_grouped": list(wilson95_grouped(placed, [r["group"] for r in its])),
                "place_of_seeds": [rates(outcomes[s])["place"] for s in seeds],
                "paper": PAPER.get((kind, pretrain), {}).get(demos),
            }
        )
    return rows


def _line(rows: list[dict], kind: str) -> list[dict]:
    return [{**r, "demonstrations": r["demos"]} for r in rows if r["policy"] == kind]
