"""A run folder's records: `config.yaml` and `metrics.jsonl`."""

import json
from pathlib import Path


class Metrics:
    """Appends one JSON object per line; on resuming at a step, later lines are dropped first."""

    def __init__(self, run: Path, step: int) -> None:
        self.path = run / "metrics.jsonl"
        kept = [line for line in read(self.path) if line["step"] < step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(self.path)

    def write(self, step: int, **values: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read(path: Path) -> list[dict]:
    """The records so far; a last line cut short by a crash is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
