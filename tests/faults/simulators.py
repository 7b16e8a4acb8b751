"""Evaluations whose simulators die, hang or starve, or that are killed themselves."""

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import builders
import numpy as np
import psutil
from flows import config
from small_heads import Shape, kind

from eval import collect, rollout
from eval.contestant import Contestant
from eval.episodes import read_episodes
from eval.pool import Pool
from eval.suites import Trial
from faults.fault import Outcome, killed, run, start, wait
from faults.training import train, until
from videopolicy.config import guarded
from videopolicy.data.files import read_jsonl
from videopolicy.data.findings import examine
from videopolicy.policy import FeaturePolicy
from videopolicy.types import ActionChunk

SIZE = 64  # [pixels]
ABOUT = {"dataset": "a", "code": "b", "commit": "c"}
CLOCK = ("seconds", "restarts")  # what differs between two runs of the same episode


@dataclass(frozen=True)
class Disturbed(Contestant):
    """The oracle, to whose third request something happens, or to others."""

    happen: Callable[[], None] = lambda: None
    when: Container[int] = (3,)

    def answer(self, requests: list[tuple[str, Any]]) -> list[ActionChunk]:
        self.asked.append(requests)
        if len(self.asked) in self.when:
            self.happen()
        return super().answer(requests)

    @property
    def asked(self) -> list:
        return self.__dict__.setdefault("_asked", [])


def episodes(
    pool: Pool,
    folder: Path,
    happen: Callable[[], None] = lambda: None,
    ensemble: float | None = None,
    when: Container[int] = (3,),
    n: int = 2,
    n_execute: int = 4,
    **options: Any,
) -> list[dict]:
    """Episodes of two chunks of four waypoints each, or as many waypoints in other chunks, by the oracle."""
    (folder / "videos").mkdir(parents=True)
    cfg = rollout.Config(output=folder, max_chunks=2, **options)
    xy = np.array([[-0.2, -0.15], [-0.3, -0.05]])
    jobs = {("seen", i): Trial(xy[i % 2], np.array([0.004, -0.003, 0.002]), 0.0, 7 + i, i) for i in range(n)}
    policy = FeaturePolicy(Shape(), kind("para")(), (224, 224))
    contestant = Disturbed("oracle", policy, "digest", True, ensemble, n_execute, happen, when)
    rollout.run_missing(cfg, pool, contestant, jobs, {}, 4, SIZE, ABOUT)
    return read_jsonl(folder / "episodes.jsonl")


def without_clock(records: list[dict]) -> list[dict]:
    kept = [{k: v for k, v in r.items() if k not in CLOCK} for r in records]
    return sorted(kept, key=lambda r: (r["policy"], r["split"], r["episode"]))


def die(pool: Pool) -> None:
    pool.workers[0].process.kill()


def hang(pool: Pool) -> None:
    pool.workers[0].process.send_signal(signal.SIGSTOP)
    pool.patience = 1.0
    threading.Timer(1.5, lambda: setattr(pool, "patience", 300.0)).start()  # to start takes longer


def starve(pool: Pool) -> None:
    """No more memory than it has; what it asks for next it does not get."""
    resource.prlimit(pool.workers[0].process.pid, resource.RLIMIT_AS, (2**20, 2**20))


def lost_simulators(folder: Path, n: int) -> Outcome:
    """Killed and hung in the middle of an episode: it is repeated with the same seed, counted, and no other differs."""
    survived = lost = 0
    with Pool(1) as pool:
        plain = without_clock(episodes(pool, folder / "plain"))
        for i in range(n):
            found = episodes(pool, folder / f"again{i}", partial((die, hang)[i % 2], pool))
            lost += len(plain) - len(found)
            survived += without_clock(found) == plain and sum(r["restarts"] for r in found) == 1
    return Outcome(n, survived, lost)


def starved_simulators(folder: Path, n: int) -> Outcome:
    """Out of memory when a scene is opened."""
    survived = 0
    looks = [{"kind": "describe", "image_size": SIZE * (i + 1), "task": None} for i in range(n + 1)]
    with Pool(1) as pool:
        list(pool.run(looks[:1]))
        for look in looks[1:]:
            starve(pool)
            ((_, seen),) = pool.run([look])
            survived += pool.deaths == [1] and seen["camera"].size == (look["image_size"],) * 2
    return Outcome(n, survived, 0)


def workers(folder: Path, n: int) -> Outcome:
    """The same seeds with one, two and more simulators: the same outcomes."""
    plain: list[dict] = []
    survived = 0
    for i in range(n + 1):
        with Pool(i + 1) as pool:
            found = without_clock(episodes(pool, folder / f"workers{i}", n=4))
        plain = plain or found
        survived += i > 0 and found == plain
    return Outcome(n, survived, 0, f"1 to {n + 1} simulators")


def blind_simulators(folder: Path, n: int) -> Outcome:
    """The first process of each opens no graphics context; the one in its place does."""
    look, survived = {"kind": "describe", "image_size": SIZE, "task": None}, 0
    for _ in range(n):
        kept = os.environ.copy()
        os.environ |= {"MUJOCO_GL": "glx", "PYOPENGL_PLATFORM": "glx", "DISPLAY": ":77"}
        pool = Pool(1)
        os.environ.clear()
        os.environ |= kept
        with pool:
            ((_, seen),) = pool.run([look])
            survived += pool.deaths == [1] and seen["camera"].size == (SIZE, SIZE)
    return Outcome(n, survived, 0)


def evaluation(folder: Path) -> Callable[[Path, int], None]:
    """An evaluation of a trained policy, by its output and its number of simulators."""
    data, policy = collected(folder), folder / "policy"
    assert run(lambda: train(policy, data, 2), folder / "log") == 0, (folder / "log").read_text()
    short = {"n_episodes": 2, "n_oracle": 1, "max_chunks": 2, "n_execute": 2}

    def evaluate(output: Path, n_workers: int) -> None:
        cfg = rollout.Config(output=output, policies={"para": str(policy)}, n_workers=n_workers, **short)
        guarded(lambda: rollout.main(cfg))

    return evaluate


def two_evaluators(folder: Path, n: int) -> Outcome:
    """A second one is refused in one line that names the first, which does not notice."""
    evaluate, survived = evaluation(folder), 0
    for i in range(n):
        path, log = folder / f"run{i}", folder / f"log{i}"
        first = start(lambda path=path: evaluate(path, 1), folder / "log")
        until(lambda path=path: bool(read_jsonl(path / "episodes.jsonl")), first)
        second = run(lambda path=path: evaluate(path, 1), log)
        refused = second == 2 and f"process {first} on " in log.read_text().splitlines()[-1]
        survived += wait(first, 300) == 0 and refused and len(read_episodes(path)) == 2 * 3
    return Outcome(n, survived, 0)


def kill_evaluation(folder: Path, n: int) -> Outcome:
    """kill -9 at random moments of an evaluation; the same command goes on; nothing is twice, missing or different."""
    evaluate = evaluation(folder)
    rng, survived, lost = random.Random(0), 0, 0
    assert run(lambda: evaluate(folder / "plain", 1), folder / "log", 300) == 0, (folder / "log").read_text()
    plain = without_clock(read_episodes(folder / "plain"))
    path = folder / "run"
    for _ in range(n):
        before = len(read_jsonl(path / "episodes.jsonl"))
        pid = start(lambda: evaluate(path, 2), folder / "log")
        until(lambda before=before: len(read_jsonl(path / "episodes.jsonl")) > before, pid)
        time.sleep(rng.uniform(0, 0.5))
        simulators = psutil.Process(pid).children() if psutil.pid_exists(pid) else []
        killed(pid)
        lost += max(0, before + 1 - len(read_jsonl(path / "episodes.jsonl")))
        _, alive = psutil.wait_procs(simulators, timeout=30)
        survived += not alive
        for process in alive:
            process.kill()
    assert run(lambda: evaluate(path, 2), folder / "log", 300) == 0, (folder / "log").read_text()
    same = without_clock(read_episodes(path)) == plain
    return Outcome(n, survived if same else 0, lost, f"{len(plain)} episodes")


def collected(folder: Path) -> Path:
    """A few demonstrations in LIBERO."""
    data = folder / "data"
    if not data.is_dir():
        cfg = config(collect.Config, "collect", output=data)
        assert run(lambda: guarded(lambda: collect.main(cfg)), folder / "log", 300) == 0, (folder / "log").read_text()
    return data


def kill_collection(folder: Path, n: int) -> Outcome:
    """kill -9 at random moments of a collection; in the end every cell of the grid has one demonstration, the same."""
    plain, path = collected(folder), folder / "run"
    cfg = config(collect.Config, "collect", output=path)
    rng, survived, lost = random.Random(1), 0, 0

    def count() -> int:
        return examine(path).n_episodes if (path / "meta/info.json").is_file() else 0

    for _ in range(n):
        before = count()
        pid = start(lambda: guarded(lambda: collect.main(cfg)), folder / "log")
        until(lambda before=before: count() > before, pid)
        time.sleep(rng.uniform(0, 1.0))
        killed(pid)
        lost += max(0, before + 1 - count())
        survived += examine(path).of_episodes == {}
    status = run(lambda: guarded(lambda: collect.main(cfg)), folder / "log", 300)
    found, expected = (
        {k: v for k, v in builders.snapshot(p).items() if k.endswith((".mp4", ".parquet"))} for p in (path, plain)
    )
    return Outcome(n, survived if status == 0 and found == expected else 0, lost, f"{count()} demonstrations")
