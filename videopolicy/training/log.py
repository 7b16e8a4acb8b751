"""A run folder's record of its training: `metrics.jsonl`, and the same where a tracker shows it."""

import json
import secrets
from pathlib import Path
from typing import Any, Literal

from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from accelerate.utils import is_wandb_available

from videopolicy.data.files import append_jsonl, read_jsonl, reading, replace
from videopolicy.errors import BadInput

Tracker = Literal["tensorboard", "wandb", "none"]


class Metrics:
    """Appends one JSON object per line; on resuming at a step, later lines are dropped first."""

    def __init__(self, run: Path, step: int, tracker: Tracker, config: dict[str, Any]) -> None:
        self.path = run / "metrics.jsonl"
        lines = read_jsonl(self.path)
        with reading(self.path):
            kept = [line for line in lines if line.get("step", step) < step]
            self.spent = max((float(x["seconds"]) for x in kept if "seconds" in x), default=0.0)  # before resuming [s]
        replace(self.path, lambda path: path.write_text("".join(json.dumps(line) + "\n" for line in kept)))
        if (run / "tensorboard").is_file():
            raise BadInput(f"{run / 'tensorboard'} is a file; it must be a folder, or not there")
        self.tracker: GeneralTracker | None = None
        if tracker == "tensorboard":  # reads what is in the folder's `tensorboard`; later steps of before are dropped
            self.tracker = TensorBoardTracker("tensorboard", run, purge_step=step)
        elif tracker == "wandb":
            known = run / "wandb_id"  # the same one when training goes on
            if not known.is_file():
                known.write_text(secrets.token_hex(4) + "\n")
            about = {"name": run.name, "dir": str(run), "id": known.read_text().strip(), "resume": "allow"}
            self.tracker = WandBTracker("videopolicy", config=config, **about)
        if self.tracker is not None:
            self.tracker.start()

    def write(self, step: int, **values: float) -> None:
        append_jsonl(self.path, {"step": step, **values})
        if self.tracker is not None:
            self.tracker.log(values, step=step)

    def close(self) -> None:
        if self.tracker is not None:
            self.tracker.finish()


def check_tracker(tracker: Tracker) -> None:
    """`BadInput` where its package is not installed."""
    if tracker == "wandb" and not is_wandb_available():
        raise BadInput("train.tracker is wandb, which is not installed (pip install wandb); allowed: tensorboard, none")
