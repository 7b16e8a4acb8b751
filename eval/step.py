"""Run one step of a pipeline, once: timed, its memory watched, skipped when it has ended well with the same inputs.

python -m eval.step runs/demo video --after collect configs/demo/video.yaml -- accelerate launch ...
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from videopolicy.config import guarded
from videopolicy.data.files import append_jsonl, make_folder, read_jsonl
from videopolicy.errors import BadInput


def main(arguments: list[str]) -> int:
    if "--" not in arguments[:-1]:
        raise BadInput(f"no command in {arguments}; allowed: FOLDER NAME [inputs] -- COMMAND")
    split = arguments.index("--")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where steps.jsonl is")
    parser.add_argument("name")
    parser.add_argument("inputs", nargs="*", type=Path, help="files that the step depends on")
    parser.add_argument(
        "--after", action="append", default=[], help="an earlier step, whose inputs count as this one's too"
    )
    parser.add_argument(
        "--output", type=Path, action="append", default=[], help="a file without which the step is not done"
    )
    args, command = parser.parse_intermixed_args(arguments[:split]), arguments[split + 1 :]

    make_folder(args.folder)
    log = args.folder / "steps.jsonl"
    for path in args.inputs:
        if not path.is_file():
            print(f"error: step {args.name} needs {path}, which is not there", file=sys.stderr)
            return 2
    done = {s["name"]: s["inputs"] for s in read_jsonl(log) if s["status"] == 0}
    before = [str(done.get(name)).encode() for name in args.after]
    parts = [*(i.read_bytes() for i in args.inputs), repr(command).encode(), *before]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    if done.get(args.name) == digest and all(path.exists() for path in args.output):
        print(f"[{args.name}] done before", flush=True)
        return 0

    print(f"\n[{args.name}] {' '.join(command)}", flush=True)
    started = time.perf_counter()
    status, peak = run(command)
    seconds = time.perf_counter() - started
    record = {"name": args.name, "inputs": digest, "status": status}
    append_jsonl(log, record | {"seconds": round(seconds, 1), "peak_gib": round(peak / 2**30, 2)})
    print(f"[{args.name}] {'done' if status == 0 else f'ended with status {status}'} after {seconds:.0f} s", flush=True)
    return status


def run(
    command: list[str], log: Path | None = None, started: Callable[[int], object] = lambda _pid: None
) -> tuple[int, int]:
    """Exit status, and the largest sum of resident memory [bytes] of the command and all its children together.

    Signals are passed on to the whole family, and this returns only when all of it has ended: a launcher leaves at
    once, while the training process it started still saves. What it prints is added to `log`, where that is given;
    `started` is told its number.
    """
    executable = shutil.which(command[0]) or command[0]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") if log is not None else contextlib.nullcontext() as file:
        errors = None if file is None else subprocess.STDOUT
        arguments = [executable, *command[1:]]
        process = subprocess.Popen(arguments, env=environment, start_new_session=True, stdout=file, stderr=errors)

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    peak = 0
    try:
        started(process.pid)
        while process.poll() is None or _family(process.pid):
            peak = max(peak, sum(_resident(p) for p in _family(process.pid)))
            time.sleep(0.5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return process.returncode, peak


def _family(group: int) -> list[psutil.Process]:
    """Living processes of a process group."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(lambda: main(sys.argv[1:])))
