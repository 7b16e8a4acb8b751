"""What a folder of runs holds: suites with their reports, evaluations, trainings, measurements."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from eval.episodes import FILE
from videopolicy.data.files import reading
from videopolicy.errors import BadInput

REPORT = "report.html"
METRICS = "metrics.jsonl"
BENCH = "bench"  # the folder that `make bench` writes to
NOT_ENTERED = ("tensorboard", "videos", "leases", "previews", "pipeline")


@dataclass(frozen=True)
class Kind:
    """A suite: how its folder looks, and the command that makes its report of what is in it."""

    title: str
    make: str  # the target that fills it
    is_it: Callable[[Path], bool]
    episodes: tuple[str, ...]  # patterns of the files that its report is of
    command: Callable[[Path], list[str]]
    summary: str = "summary.json"
    columns: tuple[str, ...] = ()  # of a row of its table, before the numbers
    tables: tuple[str, ...] = ("rows",)  # of its summary
    grasped: str = "grasp %"  # what its rows count as a grasp


def _any(folder: Path, *patterns: str) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)


KINDS = {
    "robot": Kind(
        "The arm's twin",
        "make demo-robot",
        lambda f: _any(f, "trials/*/*.jsonl"),
        ("trials/*/*.jsonl",),
        lambda f: ["-m", "robot.summary", str(f)],
        columns=("condition", "policy"),
        grasped="lifted %, placed too",
        tables=("rows", "oracle"),
    ),
    "ablations": Kind(
        "Ablations of the video backbone",
        "make ablations",
        lambda f: _any(f, f"rows/*/rollout/{FILE}", "table.json"),
        (f"rows/*/rollout/{FILE}", "rows/*/row.json"),
        lambda f: ["-m", "eval.ablations", "--scale", f.name, "--output", str(f.parent), "--report_only", "true"],
        summary="table.json",
        columns=("row", "split"),
    ),
    "fewshot": Kind(
        "Few demonstrations, after pretraining on circles",
        "make fewshot",
        lambda f: _any(f, "rollout/*/cell.json", "zero_shot/*.json"),
        (f"rollout/*/{FILE}", "rollout/*/cell.json", "zero_shot/*.json", f"oracle/{FILE}"),
        lambda f: ["-m", "eval.fewshot_report", str(f)],
        columns=("policy", "pretrain", "demos"),
    ),
    "demo": Kind(
        "The demo: both halves of the table",
        "make demo",
        lambda f: _any(f, f"rollout/{FILE}") and (_any(f, "joint_*") or (f / REPORT).is_file()),
        (f"rollout/{FILE}",),
        lambda f: ["-m", "eval.report", str(f)],
        columns=("policy", "split"),
        tables=("rows", "oracle"),
    ),
    "ood": Kind(
        "Out-of-distribution axes",
        "make ood",
        lambda f: _any(f, f"rollout/*/{FILE}"),
        (f"rollout/*/{FILE}",),
        lambda f: ["-m", "eval.ood", str(f)],
        columns=("axis", "policy", "executor"),
        tables=("rows", "osc", "oracle"),
    ),
}


@dataclass(frozen=True)
class Suite:
    folder: Path
    name: str  # its folder's, below that of all runs
    kind: Kind

    @property
    def report(self) -> Path:
        return self.folder / REPORT

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.kind.command(self.folder)])

    def newest(self) -> float:
        """When the newest of its results was written [s since the epoch]."""
        files = (path for pattern in self.kind.episodes for path in self.folder.glob(pattern))
        return max((path.stat().st_mtime for path in files), default=0.0)

    def is_stale(self) -> bool:
        """Whether its report is missing, or older than what it is of."""
        both = (self.report, self.folder / self.kind.summary)
        return not all(p.is_file() for p in both) or min(p.stat().st_mtime for p in both) < self.newest()

    def refresh(self) -> None:
        """Make its report anew by its own command; `BadInput` is that command's last line."""
        print(f"{self.report} is made anew: {self.command}", flush=True)
        result = subprocess.run(
            [sys.executable, *self.kind.command(self.folder)], capture_output=True, text=True, check=False
        )
        if result.returncode:
            said = result.stderr.strip().splitlines() or [f"status {result.returncode}"]
            raise BadInput(f"{self.command}: {said[-1].removeprefix('error: ')}")


@dataclass(frozen=True)
class Evaluation:
    """A folder of episodes; of a suite, or by itself."""

    folder: Path
    name: str
    suite: str | None


@dataclass
class Found:
    """Everything, in the order of its folders' names; `problems` are (where, what) that could not be shown."""

    runs: Path
    suites: list[Suite] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    trainings: list[Path] = field(default_factory=list)
    measurements: list[Path] = field(default_factory=list)  # JSON files
    problems: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.suites or self.evaluations or self.trainings or self.measurements)

    def name(self, path: Path) -> str:
        return path.relative_to(self.runs).as_posix()

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Around reading one run: what is wrong with it is noted, and costs no other one."""
        try:
            with reading(path):
                yield
        except BadInput as error:
            self.problems.append((self.name(path), str(error)))


def find(runs: Path, site: Path) -> Found:
    """Walk a folder of runs, past a site that stands in it."""
    found = Found(runs)
    for place, folders, files in os.walk(runs):
        folder = Path(place)
        left_out = {
            f for f in folders if f[0] == "." or f in NOT_ENTERED or f.startswith("step_") or folder / f == site
        }
        folders[:] = sorted({*folders} - left_out)
        if folder == runs:
            continue
        kind = next((kind for kind in KINDS.values() if kind.is_it(folder)), None)
        suite = next((s for s in found.suites if folder.is_relative_to(s.folder)), None)
        if kind is not None and suite is None:
            suite = Suite(folder, found.name(folder), kind)
            found.suites.append(suite)
        if FILE in files:
            found.evaluations.append(Evaluation(folder, found.name(folder), suite.name if suite else None))
        if METRICS in files:
            found.trainings.append(folder)
        measured = suite is None and (folder.name == BENCH or {"summary.json", "sweep.json"} & {*files})
        wanted = {f for f in files if f.endswith(".json")} if folder.name == BENCH else {"summary.json", "sweep.json"}
        found.measurements += [folder / f for f in sorted(wanted & {*files})] if measured else []
    return found
