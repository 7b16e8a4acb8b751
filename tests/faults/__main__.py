"""Inject every fault, and print what the programs survived and what was lost.

PYTHONPATH=tests:. python -m faults [--quick] [--json FILE]

Exit status 1 where a fault was not survived, or something was lost.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from faults import data, inputs, saving, simulators, tampered, training
from faults.fault import Fault, Outcome, attempt
from videopolicy.data.files import write_json

FAULTS = (
    Fault("checkpoint: kill -9 while saving", saving.kill_saves, 20, 2),
    Fault("checkpoint: kill -9 before every file operation of a save", saving.kill_everywhere, 1000, 12),
    Fault("checkpoint: disk full at every file operation of a save", saving.full_everywhere, 1000, 5),
    Fault("checkpoint: disk full in the middle of a file", saving.full_disk, 10, 2),
    Fault("checkpoint: read-only folder", saving.read_only, 2, 2),
    Fault("checkpoint: flipped, truncated, empty, missing files", saving.damaged_files, 50, 3),
    Fault("training: kill -9", training.kill_training, 20, 1),
    Fault("training: SIGTERM and Ctrl-C", training.stop_training, 4, 0),
    Fault("training: NaN in a batch, infinite gradient", training.not_finite, 4, 2),
    Fault("training: a disk too small for checkpoints", training.small_disks, 2, 1),
    Fault("training: a second trainer in the same run", training.two_trainers, 2, 1),
    Fault("data: kill -9 while recording", data.kill_recording, 20, 2),
    Fault("data: kill -9 before every file operation of a recording", data.kill_everywhere, 1000, 6),
    Fault("data: disk full while recording", data.full_disk, 10, 2),
    Fault("data: flipped, truncated, footerless, empty, missing files", data.damaged_files, 50, 3),
    Fault("data: AV1, other lengths, columns, NaN", data.unusual_files, 6, 6),
    Fault("data: kill -9 while collecting in LIBERO", simulators.kill_collection, 2, 0),
    Fault("evaluation: simulator killed, hung", simulators.lost_simulators, 4, 0),
    Fault("evaluation: simulator out of memory", simulators.starved_simulators, 2, 0),
    Fault("evaluation: simulator without graphics", simulators.blind_simulators, 1, 0),
    Fault("evaluation: a second evaluator in the same folder", simulators.two_evaluators, 1, 0),
    Fault("evaluation: kill -9", simulators.kill_evaluation, 3, 0),
    Fault("evaluation: other numbers of simulators", simulators.workers, 2, 0),
    Fault("input: configurations and options", inputs.configurations, 400, 150),
    Fault("input: datasets", inputs.datasets, 400, 50),
    Fault("input: checkpoints to act with", tampered.policies, 300, 10),
    Fault("input: exported policies", tampered.exports, 300, 10),
    Fault("input: checkpoints to train on", tampered.resumed, 200, 6),
    Fault("input: checkpoints to begin stage two with", tampered.stage_one, 200, 5),
    Fault("input: camera files", inputs.cameras, 1000, 200),
    Fault("input: an arm's calibration", inputs.calibrations, 600, 50),
    Fault("input: weights of an image network", inputs.weights, 200, 20),
)
ROW = "{:<58} {:>8} {:>8} {:>5}  {}"


def main(quick: bool = False) -> list[dict]:
    """Inject every fault into a fresh folder; a row for each, and one of totals."""
    torch.set_num_threads(1)  # processes are forked from this one
    print(ROW.format("fault", "injected", "survived", "lost", "note"), flush=True)
    rows, started = [], time.monotonic()
    for fault in FAULTS:
        n = fault.n_quick if quick else fault.n
        if n:
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                os.chmod(folder, 0o755)
                found = attempt(fault, Path(folder), n)
            rows.append({"fault": fault.name, **asdict(found), "seconds": round(time.monotonic() - begun, 1)})
            _print(rows[-1])
    totals = Outcome(*(sum(row[key] for row in rows) for key in ("injected", "survived", "lost")))
    if failed := [f"{row['fault']}: {text}" for row in rows for text in row["failed"]]:
        print("\n".join(["", "what was not survived:", *failed[:20], ""]))
    rows.append({"fault": "total", **asdict(totals), "seconds": round(time.monotonic() - started, 1)})
    _print(rows[-1])
    return rows


def _print(row: dict) -> None:
    note = ", ".join(x for x in (row["note"], f"{row['seconds']:.0f} s") if x)
    print(ROW.format(row["fault"], row["injected"], row["survived"], row["lost"], note), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="what `make test` injects")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args()
    found = main(given.quick)
    if given.json:
        write_json(given.json, {"rows": found})
    sys.exit(found[-1]["survived"] != found[-1]["injected"] or found[-1]["lost"] != 0)
