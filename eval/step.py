"""Run one step of a pipeline, once: timed, its peak memory noted, skipped when it has ended well with the same inputs.

python -m eval.step runs/demo collect configs/demo/collect.yaml -- python -m eval.collect --config_path ...
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    folder, name, *inputs = arguments[:split]
    command = arguments[split + 1 :]
    log = Path(folder) / "steps.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(Path(i).read_bytes() for i in inputs) + repr(command).encode()).hexdigest()[:16]
    if any(s["name"] == name and s["inputs"] == digest and s["status"] == 0 for s in read_steps(log)):
        print(f"[{name}] done before", flush=True)
        return 0
    print(f"\n[{name}] {' '.join(command)}", flush=True)
    started = time.perf_counter()
    executable = shutil.which(command[0]) or command[0]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([executable, *command[1:]], env=environment, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # pass it on to the whole family, launchers' children too
        signal.signal(number, lambda number, _: os.killpg(process.pid, number))
    status = process.wait()
    record = {
        "name": name,
        "inputs": digest,
        "status": status,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
    }
    with log.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(
        f"[{name}] {'done' if status == 0 else f'ended with status {status}'} after {record['seconds']:.0f} s",
        flush=True,
    )
    return status


def read_steps(log: Path) -> list[dict]:
    """Every run of every step so far, interrupted ones too."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
