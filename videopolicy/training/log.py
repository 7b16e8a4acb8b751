"""A run folder's record of its training: `metrics.jsonl`."""

import json
from pathlib import Path

from videopolicy.data.files import append_jsonl, read_jsonl


class Metrics:
    """Appends one JSON object per line; on resuming at a step, later lines are dropped first."""

    def __init__(self, run: Path, step: int) -> None:
        self.path = run / "metrics.jsonl"
        kept = [line for line in read_jsonl(self.path) if line["step"] < step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(self.path)
        self.spent = max((line["seconds"] for line in kept if "seconds" in line), default=0.0)  # before resuming [s]

    def write(self, step: int, **values: float) -> None:
        append_jsonl(self.path, {"step": step, **values})
