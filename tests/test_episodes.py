"""Episodes as an evaluation runs them: chunks averaged, dead simulators replaced and counted, exceptions not scored."""

import resource
import signal
import threading
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_heads import Shape, joint, kind, para

from eval import rollout
from eval.pool import Pool
from eval.suites import Trial
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.policy import FeaturePolicy
from videopolicy.types import ActionChunk

SIZE = 64
ABOUT = {"dataset": "a", "code": "b", "commit": "c"}
CLOCK = ("seconds", "restarts")


@dataclass(frozen=True)
class Disturbed(rollout.Contestant):
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


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def run(
    pool: Pool,
    folder: Path,
    happen: Callable[[], None] = lambda: None,
    ensemble: float | None = None,
    when: Container[int] = (3,),
) -> list[dict]:
    """Two episodes of two chunks each."""
    (folder / "videos").mkdir(parents=True)
    cfg = rollout.Config(output=folder, max_chunks=2)
    xy = np.array([[-0.2, -0.15], [-0.3, -0.05]])
    jobs = {("seen", i): Trial(xy[i], np.array([0.004, -0.003, 0.002]), 0.0, 7 + i, i) for i in range(2)}
    policy = FeaturePolicy(Shape(), kind("para")(), (224, 224))
    contestant = Disturbed("oracle", policy, "digest", True, ensemble, happen, when)
    rollout.run_missing(cfg, pool, contestant, jobs, {}, 4, SIZE, ABOUT)
    return read_jsonl(folder / "episodes.jsonl")


def test_deaths_are_recorded_and_change_nothing_else(pool: Pool, tmp_path: Path) -> None:
    """The same episode, bit for bit, whatever its simulator has been through."""
    whole = run(pool, tmp_path / "whole")
    again = run(pool, tmp_path / "again", lambda: pool.workers[0].process.kill())
    assert [r["restarts"] for r in whole] == [0, 0]
    assert [r["restarts"] for r in again] == [0, 1]
    assert [r["chunks"] for r in whole] == [2, 2]
    kept = [[{k: v for k, v in r.items() if k not in CLOCK} for r in records] for records in (whole, again)]
    assert kept[0] == kept[1]


def test_hanging_simulators_are_replaced(tmp_path: Path) -> None:
    """As dead ones are: the episode is repeated, the event counted, and nothing else differs."""

    def happen() -> None:
        pool.workers[0].process.send_signal(signal.SIGSTOP)
        pool.patience = 1.0
        threading.Timer(1.5, lambda: setattr(pool, "patience", 300.0)).start()  # to start takes longer

    with Pool(1) as pool:
        whole = run(pool, tmp_path / "whole")
        again = run(pool, tmp_path / "again", happen)
    assert sum(r["restarts"] for r in again) == 1
    kept = [[{k: v for k, v in r.items() if k not in CLOCK} for r in records] for records in (whole, again)]
    assert kept[0] == kept[1]


def test_starved_simulators_are_replaced() -> None:
    """One that may have no more memory than it has cannot open another scene; a new one can."""
    with Pool(1) as pool:
        looks = [{"kind": "describe", "image_size": size, "task": None} for size in (SIZE, 2 * SIZE)]
        list(pool.run(looks[:1]))
        resource.prlimit(pool.workers[0].process.pid, resource.RLIMIT_AS, (2**20, 2**20))
        ((_, seen),) = pool.run(looks[1:])
        assert pool.deaths == [1]
    assert seen["camera"].size == (2 * SIZE, 2 * SIZE)


def test_a_simulator_that_always_dies_is_named(tmp_path: Path) -> None:
    with Pool(1) as pool, pytest.raises(RuntimeError, match="the simulator died, 3 times in job 0"):
        run(pool, tmp_path, lambda: pool.workers[0].process.kill(), when=range(1, 9))


def test_overlapping_chunks_are_averaged_in_the_simulators_process(pool: Pool, tmp_path: Path) -> None:
    """Under a very large m only the oldest chunk that speaks of a waypoint counts."""
    for record in run(pool, tmp_path, ensemble=1e4):
        first, second = record["targets"]
        assert second[:2] == first[4:]  # chunks of 6, 4 of them executed
        assert record["ensemble"] == 1e4


def test_who_ensembles_is_configured() -> None:
    """By default the head whose paper does it, with the paper's m; it is part of what identifies an evaluation."""
    act, para = kind("act")(), kind("para")()
    assert [rollout.ensemble_of(rollout.Config(), head) for head in (act, para)] == [0.01, None]
    assert rollout.ensemble_of(rollout.Config(ensemble="all", ensemble_m=0.5), para) == 0.5
    assert rollout.ensemble_of(rollout.Config(ensemble="none"), act) is None
    with pytest.raises(BadInput, match=r"ensemble_m is -1.0; allowed: at least 0"):
        rollout.main(rollout.Config(policies={"a": "b"}, ensemble_m=-1.0))


def test_an_exception_scores_nothing(pool: Pool, tmp_path: Path) -> None:
    """It ends the evaluation, and what was finished before it stays."""

    def fail() -> None:
        raise ZeroDivisionError("the network broke")

    with pytest.raises(ZeroDivisionError):
        run(pool, tmp_path / "policy", fail)
    assert [r["episode"] for r in read_jsonl(tmp_path / "policy/episodes.jsonl")] == [0]


def test_another_heads_scales_are_another_ceiling() -> None:
    """An oracle's episodes are kept for heads that encode alike, whatever their weights."""
    heads = [para(), para(window=2.0), joint(), para(n_steps=12)]
    assert len({rollout._scales(head) for head in heads}) == len(heads)
    torch.nn.init.ones_(heads[0].embed[1].weight)
    assert rollout._scales(heads[0]) == rollout._scales(para())
