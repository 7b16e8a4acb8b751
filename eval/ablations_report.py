"""The ablations' table, of whatever is finished: `table.json`, `table.md` and a self-contained `report.html`."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jinja2

from eval.ablation_record import RECORD
from eval.ablation_rows import REFERENCE, Plan
from eval.episodes import read_episodes
from eval.first_close import first_close
from eval.lease import holder
from eval.statistics import paired
from eval.training import Training, read_leaves
from videopolicy.data.files import read_json, read_jsonl, replace
from videopolicy.provenance import provenance
from videopolicy.rates import rates
from videopolicy.training import checkpoint

EPISODES = dict[tuple, dict]  # of a policy, by split, number and seed


def report(folder: Path, plans: Sequence[Plan]) -> dict:
    """Write and return the table of all rows of a scale, in their order: those that are not finished say how far."""
    episodes = {p.name: _episodes(p) for p in plans}
    rows = [row for p in plans for row in _rows(p, episodes[p.name], episodes.get(REFERENCE, {}))]
    unfinished = {p.name: why for p in plans if (why := _progress(p, folder, len(episodes[p.name]))) is not None}
    scale = plans[0].scale
    about = {"scale": folder.name, "share": scale.share, "rows": rows, "unfinished": unfinished}
    about |= {"rolled_out_at": sorted({c for row in rows for c in row["rolled_out_at"]}), **provenance()}
    templates = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent))
    html = templates.get_template("ablations.html.j2").render(summary=about, cost=cost, closes=closes)
    texts = {"table.json": json.dumps(about, indent=1) + "\n", "table.md": markdown(about), "report.html": html}
    for name, text in texts.items():
        replace(folder / name, partial(Path.write_text, data=text))
    print(f"{len(plans) - len(unfinished)} of {len(plans)} rows are finished: {folder / 'table.md'}", flush=True)
    return about


def _episodes(p: Plan) -> EPISODES:
    records = read_episodes(p.folder / "rollout")
    return {(r["split"], r["episode"], r["seed"]): r for r in records if r["policy"] == p.name}


def _rows(p: Plan, its: EPISODES, reference: EPISODES) -> list[dict]:
    """A line for each split that the row was rolled out on."""
    stages = {"video": p.video and trained(p.video), "joint": trained(p.joint)}
    common = {
        "row": p.name,
        "group": p.row.group,
        "title": p.row.title,
        "published": p.row.published,
        "demonstrations": demonstrations(p.joint),
        "stages": stages,
        "peak_gib": read_json(p.folder / RECORD)["peak_gib"] if (p.folder / RECORD).is_file() else None,
    }
    found = []
    for split in dict.fromkeys(key[0] for key in its):
        mine, theirs = ({k: r for k, r in e.items() if k[0] == split} for e in (its, reference))
        against = None if p.name == REFERENCE else paired(_outcomes(mine), _outcomes(theirs), _groups(mine))
        commits = sorted({r["commit"] for r in mine.values()})
        numbers = {**rates([r["outcome"] for r in mine.values()]), "finished": len(mine) >= p.protocol["n_episodes"]}
        numbers |= {"first_close": first_close(mine.values())}
        found.append({**common, "split": split, **numbers, "against": against, "rolled_out_at": commits})
    return found


def _outcomes(episodes: EPISODES) -> dict[tuple, str]:
    return {key: record["outcome"] for key, record in episodes.items()}


def _groups(episodes: EPISODES) -> dict[tuple, int]:
    return {key: record["group"] for key, record in episodes.items()}


def trained(training: Training) -> dict | None:
    """How long a run has been trained, and by how much computation; None before it begins.

    `pflop` are the operations of all its samples, counted, without validation; None where none were counted.
    """
    lines = [m for m in read_jsonl(training.run / "metrics.jsonl") if "step" in m]
    if not lines or not (training.run / "config.yaml").is_file():
        return None
    made = read_leaves(training.run / "config.yaml")
    steps = max(m["step"] for m in lines) + 1
    last: dict = {}
    for line in lines:
        last |= line
    each = last.get("gflop_per_sample")
    error = last.get("val/position_mm") if made.get("data.n_val_episodes") else None
    there = checkpoint.steps(training.run)
    return {
        "steps": steps,
        "of": training.n_steps,
        "minutes": round(last.get("seconds", 0.0) / 60, 1),
        "pflop": None if each is None else float(f"{each * made['train.batch_size'] * steps / 1e6:.3g}"),
        "held_out_mm": None if error is None else round(error, 1),
        "commits": checkpoint.read_state(there[-1]).get("commits", []) if there else [],
    }


def demonstrations(training: Training) -> str:
    """What a row's head was shown."""
    every = read_leaves(training.recipe) | training.changes
    n, which = every.get("data.n_train_episodes"), every.get("data.select", "all")
    where = str(every["data.root"]) + (f" ({which})" if which != "all" else "")
    return f"{n} of {where}" if n is not None else where


def _progress(p: Plan, folder: Path, n_episodes: int) -> str | None:
    """How far a row is that is not finished."""
    if (p.folder / RECORD).is_file():
        return None
    who = holder(folder / "leases", f"row_{p.name}")
    by = f" ({who})" if who else ""
    for name, training in (("stage one", p.video), ("stage two", p.joint)):
        found = trained(training) if training is not None else {"steps": 0, "of": 0}
        if found is None or found["steps"] < found["of"]:
            return f"{name}: {found['steps'] if found else 0} of {training.n_steps if training else 0} steps{by}"
    return f"{n_episodes} of {p.n_episodes} episodes{by}"


def cost(stages: dict, key: str) -> str:
    """A number of both stages, as `280 + 210`, the second alone where there is no first; `?` where it is not known."""
    each = [s and s[key] for s in (stages["video"], stages["joint"])]
    shown = ["?" if value is None else f"{value:g}" for value in each]
    return " + ".join(shown if stages["video"] else shown[1:])


def closes(found: dict | None) -> str:
    """Where the gripper first closes, as `44, 16`: beside the bowl's middle and above the table [mm]."""
    return "" if found is None else f"{found['beside_mm']}, {found['above_mm']}"


RATES = ("n", "P", "Wilson 95 %", "G", "weighted", "published P")
HEAD = ("row", "split", *RATES, "closes beside, above [mm]", "steps", "minutes", "PFLOP", "commit")


def markdown(about: dict) -> str:
    """The table as a document quotes it."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for r in about["rows"]:
        low, high = r["wilson95"]
        rate = [str(r["n"]), f"{r['place']:.1f}", f"{low:.1f} to {high:.1f}", f"{r['grasp']:.1f}"]
        published = "" if r["published"] is None else f"{r['published']:g}"
        spent = [cost(r["stages"], key) for key in ("steps", "minutes", "pflop")]
        name = r["row"] if r["finished"] else f"{r['row']} (unfinished)"
        cells = [name, r["split"], *rate, f"{r['weighted']:.1f}", published, closes(r["first_close"]), *spent]
        cells.append(", ".join(r["rolled_out_at"]))
        lines.append(f"| {' | '.join(cells)} |")
    if about["unfinished"]:
        lines += ["", *(f"- {name}: {why}" for name, why in about["unfinished"].items())]
    return "\n".join(lines) + "\n"
