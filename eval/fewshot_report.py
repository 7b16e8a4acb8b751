"""The tables of few-shot tuning as `summary.json` and `report.html`, and how circles transfer before any tuning.

python -m eval.fewshot_report runs/fewshot

Of what was measured, which are small files; no checkpoint and no dataset is looked at, and nothing is trained.
"""

from pathlib import Path

from eval import fewshot_oracle, figures, zero_shot
from eval.episodes import read_episodes
from eval.fewshot_cells import BEGINNINGS
from eval.statistics import rates_of, table
from videopolicy.config import launch_on_folder
from videopolicy.data.files import read_json, reading, write_json
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
CELL = "cell.json"  # beside a finished cell's episodes: how it was trained and rolled out


def report(folder: Path) -> dict:
    """Of all cells that were rolled out under `folder`; `BadInput` where there are none."""
    records, made = _read(folder / "rollout")
    if not records:
        raise BadInput(f"no episodes under {folder}/rollout/*/episodes.jsonl; run eval.fewshot first")
    rows = _rows(records, {name: its for name, (its, _) in made.items()})
    shots, sheets = zero_shot.read(folder)
    summary = {
        "rows": rows,
        "zero_shot": shots,
        **{f"{name}s": sorted({str(r.get(name)) for r in records}) for name in ("executor", "step_cap", "dataset")},
        "trained_at": sorted({commit for _, commits in made.values() for commit in commits}),
        **fewshot_oracle.read(folder),
        "rolled_out_at": sorted({r["commit"] for r in records}),
        **provenance(),
    }
    curves = [
        (kind, figures.efficiency_figure(_line(rows, kind), lambda r: str(r["pretrain"]), BEGINNINGS))
        for kind in dict.fromkeys(r["policy"] for r in rows)
    ]
    html = page(Path(__file__).with_name("fewshot.html.j2"), summary=summary, curves=curves, sheets=sheets)
    write_json(folder / "summary.json", summary)
    (folder / "report.html").write_text(html)
    ceiling = [{"pretrain": "", "demos": "", **row} for row in summary["oracle"]]
    print(table(rows + ceiling, {"policy": 11, "pretrain": 8, "demos": 5}))
    for row in shots:
        print(f"{row['run']} on {row['scenes']}: {row['pixel']:.1f} px ({row['n']} clips)")
    print(f"report: {folder / 'report.html'}", flush=True)
    return summary


def _read(folder: Path) -> tuple[list[dict], dict[str, tuple[list[int], list[str]]]]:
    """All episodes, each with its policy's name in parts; and of finished cells the trainings' steps and commits."""
    records: list[dict] = []
    made: dict[str, tuple[list[int], list[str]]] = {}
    places: dict[str, Path] = {}
    for place in sorted(folder.glob("*/")):
        for record in read_episodes(place):
            name = record["policy"]
            if places.setdefault(name, place) != place:
                raise BadInput(f"{places[name]} and {place} both hold episodes of {name}; allowed: one of them")
            try:
                kind, pretrain, demos, seed = name.rsplit("_", 3)
                parts = {"kind": kind, "pretrain": BEGINNINGS.index(pretrain), "demos": int(demos), "tuned": int(seed)}
            except ValueError as error:
                words = "<head>_<scratch, equal, 2d or 3d>_<demonstrations>_<seed>"
                raise BadInput(f"{place} holds episodes of {name!r}; allowed: names as {words}") from error
            records.append(record | parts)
        if (place / CELL).is_file():
            cell = read_json(place / CELL)
            with reading(place / CELL):
                steps = [int(cell.get(f"{x}.train.n_steps", 0)) for x in ("pretraining", "tuning")]
                made[place.name] = steps, [str(commit) for commit in cell["trained_at"]]
    return records, made


def _rows(records: list[dict], steps: dict[str, list[int]]) -> list[dict]:
    """Of each head, beginning and number of demonstrations, all seeds together."""
    cells: dict[tuple[str, int, int], list[dict]] = {}
    for record in records:
        cells.setdefault((record["kind"], record["demos"], record["pretrain"]), []).append(record)
    rows = []
    for (kind, demos, number), its in sorted(cells.items()):
        outcomes = [[r["outcome"] for r in its if r["tuned"] == s] for s in sorted({r["tuned"] for r in its})]
        pretrain = BEGINNINGS[number]
        rows.append(
            {
                "policy": kind,
                "pretrain": pretrain,
                "demos": demos,
                **rates_of(its),
                "place_of_seeds": [rates(o)["place"] for o in outcomes],
                "steps": next((steps[r["policy"]] for r in its if r["policy"] in steps), None),
                "paper": PAPER.get((kind, pretrain), {}).get(demos),
            }
        )
    return rows


def _line(rows: list[dict], kind: str) -> list[dict]:
    return [{**r, "demonstrations": r["demos"]} for r in rows if r["policy"] == kind]


if __name__ == "__main__":
    launch_on_folder(report, "python -m eval.fewshot_report FOLDER (that holds rollout/*/episodes.jsonl)")
