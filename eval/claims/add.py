"""Add what a report has counted to docs/results, where the claims table finds it.

python -m eval.claims.add runs/ood/summary.json --suite ood --command "make ood-{axis}" \\
    --scale "EfficientNet-Lite0 at 224 px, {demonstrations} demonstrations, {steps} steps of 8, one seed"

SUMMARY is the `summary.json` of eval.ood, eval.report, eval.fewshot or robot.summary, or the `table.json` of
eval.ablations, of which finished rows count; in braces stand keys of its rows. Results are named suite/axis/policy,
those by the camera's angle suite/axis_angle/policy, ablations suite/split/row; docs/claims/tables knows the suites ood,
demo, ablations, fewshot and twin. What is there already is not added again. `python -m eval.claims` follows.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

from eval.ablations_report import cost
from eval.claims.results import FOLDER, Result, read_results
from videopolicy.config import guarded
from videopolicy.data.files import append_jsonl, make_folder, read_json, reading
from videopolicy.errors import BadInput


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--suite", required=True, help="first part of the results' names, and the file's")
    parser.add_argument("--command", required=True, help="that measured it")
    parser.add_argument("--scale", required=True, help="network, demonstrations, steps, seeds, executor")
    parser.add_argument("--machine", help="processors and memory; by default the summary's")
    parser.add_argument("--stand_in", help="what it was measured on in the place of what a claim is about: svd-tiny")
    parser.add_argument("--root", type=Path, default=Path(), help="of the repository")
    options = parser.parse_args(args)
    with reading(options.summary):
        found = list(results(read_json(options.summary), options))
    faults: list[str] = []
    there = {r.id: r for r in read_results(options.root, faults)}
    if faults:
        raise BadInput(faults[0])
    new = [r for r in found if there.get(r.id) != r]
    make_folder(options.root / FOLDER)
    for result in new:
        values = {k: v for k, v in asdict(result).items() if v is not None or k == "grasped"}
        append_jsonl(options.root / FOLDER / f"{options.suite}.jsonl", values)
    print(f"{len(new)} of {len(found)} results added to {FOLDER}/{options.suite}.jsonl")


def results(summary: dict, options: argparse.Namespace) -> Iterator[Result]:
    """One for each row of a report; the oracle's are left out."""
    measured = date.fromtimestamp(options.summary.stat().st_mtime).isoformat()
    rows = [*summary["rows"], *summary.get("osc", [])]
    axes = {(r["axis"], r["policy"], r["executor"]): r for r in rows if "axis" in r}
    rows += [axes[r["axis"], r["policy"], r["executor"]] | {"minutes": None} | r for r in summary.get("per_theta", [])]
    for row in map(_flat, rows):
        if not row.get("finished", True):
            continue
        n, grasped = row["n"], row["grasp"] - row["place"] if "condition" in row else row["grasp"]
        yield Result(
            id=f"{options.suite}/{_name(row)}",
            command=_filled(options.command, row),
            commit=_commits(row, summary),
            date=measured,
            machine=options.machine or summary["machine"],
            scale=_filled(options.scale, row),
            n=n,
            placed=_count(row["place"], n),
            grasped=_count(grasped, n),
            minutes=row.get("minutes"),
            stand_in=options.stand_in,
        )


def _flat(row: dict) -> dict:
    """A row of an ablations' table as the other reports have theirs; any other as it is."""
    if "stages" not in row:
        return row
    stages = [s for s in row["stages"].values() if s]
    return row | {
        "policy": row["row"],
        "steps": cost(row["stages"], "steps"),
        "minutes": round(sum(s["minutes"] for s in stages), 1),
        "trained_at": sorted({c for s in stages for c in s["commits"]}),
        "commits": row["rolled_out_at"],
    }


def _name(row: dict) -> str:
    if "axis" in row:
        angle = f"_{row['theta']:.1f}" if "theta" in row else ""
        osc = "_osc" if row["executor"] == "osc" else ""
        return f"{row['axis']}{angle}{osc}/{row['policy']}"
    if "pretrain" in row:
        return f"{row['demos']}/{row['policy']}_{row['pretrain']}"
    return f"{row.get('condition') or row['split']}/{row['policy']}"


def _commits(row: dict, summary: dict) -> str:
    """Of the training, where that is known and another one, and of the episodes."""
    episodes = row.get("commits") or summary.get("rolled_out_at") or [summary["commit"]]
    trained = row.get("trained_at") or episodes
    if trained == episodes:
        return ", ".join(episodes)
    return f"{', '.join(trained)} (training), {', '.join(episodes)} (episodes)"


def _count(percent: float, n: int) -> int:
    """Episodes of n that were so many per cent, rounded to tenths."""
    k = round(percent * n / 100)
    if abs(100 * k / n - percent) > 0.11:  # of a difference of two rounded ones
        raise BadInput(f"{percent} % of {n} episodes is no whole number of them")
    return k


def _filled(pattern: str, row: dict) -> str:
    try:
        return pattern.format(**row)
    except (KeyError, IndexError, ValueError) as error:
        names = sorted(k for k, v in row.items() if isinstance(v, str | int | float))
        raise BadInput(f"{pattern!r} names {error}; allowed: {', '.join(names)}") from error


if __name__ == "__main__":
    guarded(main)
