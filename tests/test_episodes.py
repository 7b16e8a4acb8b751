"""Episodes as an evaluation runs them: chunks averaged, dead simulators replaced and counted, exceptions not scored."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.fault import Outcome
from faults.simulators import die, hang, starved_simulators, without_clock
from faults.simulators import episodes as run
from small_heads import joint, kind, para

from eval import record as collection
from eval import rollout
from eval.contestant import scales
from eval.grid import GridConfig
from eval.pool import Pool
from eval.protocol import ensemble_of
from videopolicy.data.files import read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def whole(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Episodes to whose simulator nothing happened."""
    return run(pool, tmp_path_factory.mktemp("episodes") / "whole")


def test_deaths_are_recorded_and_change_nothing_else(pool: Pool, whole: list[dict], tmp_path: Path) -> None:
    """The same episode, bit for bit, whatever its simulator has been through."""
    again = run(pool, tmp_path / "again", partial(die, pool))
    assert [r["restarts"] for r in whole] == [0, 0]
    assert [r["restarts"] for r in again] == [0, 1]
    assert [r["chunks"] for r in whole] == [2, 2]
    assert without_clock(whole) == without_clock(again)


def test_hanging_simulators_are_replaced(whole: list[dict], tmp_path: Path) -> None:
    """As dead ones are: the episode is repeated, the event counted, and nothing else differs."""
    with Pool(1) as pool:
        again = run(pool, tmp_path / "again", partial(hang, pool))
    assert sum(r["restarts"] for r in again) == 1
    assert without_clock(whole) == without_clock(again)


def test_starved_simulators_are_replaced(tmp_path: Path) -> None:
    """One that may have no more memory than it has cannot open another scene; a new one can."""
    assert starved_simulators(tmp_path, 1) == Outcome(1, 1, 0)


def test_a_simulator_that_always_dies_is_named(tmp_path: Path) -> None:
    """In the place of simulators, programs that end as they begin."""
    with Pool(1, "videopolicy.errors") as pool:
        with pytest.raises(RuntimeError, match="the simulator died, 3 times in job 0"):
            run(pool, tmp_path)
        assert pool.deaths == [3, 0]
    assert not (tmp_path / "episodes.jsonl").exists()


def test_overlapping_chunks_are_averaged_in_the_simulators_process(pool: Pool, tmp_path: Path) -> None:
    """Under a very large m only the oldest chunk that speaks of a waypoint counts."""
    for record in run(pool, tmp_path, ensemble=1e4):
        first, second = record["targets"]
        assert second[:2] == first[4:]  # chunks of 6, 4 of them executed
        assert record["ensemble"] == 1e4


def test_policies_replan_as_often_as_each_is_to(pool: Pool, tmp_path: Path) -> None:
    """For as many waypoints in all; every chunk says how sure its head was of what is executed."""
    for n_execute, n_chunks, shift in ((4, 2, "both"), (2, 4, "bowl")):
        for record in run(pool, tmp_path / str(n_execute), n=1, n_execute=n_execute, shift=shift):
            assert record.get("shift", "both") == shift
            assert (record["n_execute"], record["chunks"]) == (n_execute, n_chunks)
            assert len(record["confidence"]) == n_chunks
            assert all(0.5 < share <= 1 for share in record["confidence"])  # the oracle is


class KilledOnce(Pool):
    """Its simulator dies while the second of its demonstrations is made."""

    def run_in_order(self, jobs: list[dict]) -> Iterator[tuple[int, Any]]:
        for number, result in super().run_in_order(jobs):
            if number == 0:
                die(self)
            yield number, result


def test_collecting_counts_the_simulators_that_died(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In the dataset's card and on the console; the demonstration is made again, and none is missing."""
    with KilledOnce(1) as pool:
        found = collection.record(GridConfig("left", 2).spots(0), pool, tmp_path / "data", 64, 4, seed=0)
    assert found["episodes"] == 2
    assert [extra.get("restarts") for extra in Dataset(tmp_path / "data").extras()] == [None, 1]
    assert "| simulators that died, their episodes repeated | 1 |" in (tmp_path / "data/README.md").read_text()
    said = capsys.readouterr().out
    assert "; 1 simulators died and were replaced, their episodes repeated" in said
    assert "1 simulator(s) died or hung and were replaced; what they were at was repeated" in said


def test_who_ensembles_is_configured() -> None:
    """By default the head whose paper does it, with the paper's m; it is part of what identifies an evaluation."""
    act, para = kind("act")(), kind("para")()
    assert [ensemble_of(rollout.Config(), head) for head in (act, para)] == [0.01, None]
    assert ensemble_of(rollout.Config(ensemble="all", ensemble_m=0.5), para) == 0.5
    assert ensemble_of(rollout.Config(ensemble="none"), act) is None
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
    assert len({scales(head) for head in heads}) == len(heads)
    torch.nn.init.ones_(heads[0].embed[1].weight)
    assert scales(heads[0]) == scales(para())
