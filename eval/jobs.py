"""Jobs that wait for each other, run by any number of processes that share a folder, each job by one of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.lease import Lease, holder, take
from videopolicy.errors import BadInput

POLL = 10.0  # while others have what is left [s]


@dataclass(frozen=True)
class Job:
    """Something to be made once."""

    name: str  # also of its lease
    needs: tuple["Job", ...]  # what must be there before
    done: Callable[[], bool]  # `BadInput` where what is there was not made by it
    run: Callable[[Lease], object]  # `BadInput` where that fails


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Each once, after all that it needs."""
    found: dict[str, Job] = {}
    for job in jobs:
        found |= {each.name: each for each in [*in_order(job.needs), job] if each.name not in found}
    return list(found.values())


def run_all(
    jobs: Sequence[Job], leases: Path, after: Callable[[], object] = lambda: None, poll: float = POLL
) -> dict[str, str]:
    """Run what is missing of jobs and of all that they need, waiting for those that other processes run.

    `after` is called when a job has been run. A job that fails stops those alone that need it: returns what was not
    made, and why. `BadInput` before anything is run where something that is there was made otherwise.
    """
    every = in_order(jobs)
    for job in every:
        if holder(leases, job.name) is None:
            job.done()
    finished: set[str] = set()
    failed: dict[str, str] = {}
    waiting = ""
    while left := [job for job in every if job.name not in finished and job.name not in failed]:
        if _one(left, finished, failed, leases):
            after()
            continue
        left = [job for job in left if job.name not in finished and job.name not in failed]
        whom = ", ".join(f"{j.name} ({who})" for j in left if (who := holder(leases, j.name)) is not None)
        if whom and whom != waiting:
            print(f"waiting for {whom}", flush=True)
        waiting = whom
        if left:
            time.sleep(poll)
    return failed


def _one(left: list[Job], finished: set[str], failed: dict[str, str], leases: Path) -> bool:
    """Run the first job that can be; whether there was one. Those found done or lost on the way are noted."""
    for job in left:
        if lost := [need.name for need in job.needs if need.name in failed]:
            failed[job.name] = f"{lost[0]} is missing"
            continue
        if any(need.name not in finished for need in job.needs) or holder(leases, job.name) is not None:
            continue
        try:
            if job.done():
                finished.add(job.name)
                continue
            lease = take(leases, job.name)
            if lease is None:
                continue
            with lease:
                if not job.done():
                    print(f"\n[{job.name}]", flush=True)
                    job.run(lease)
            if lease.lost:  # another process goes on with it
                continue
            finished.add(job.name)
        except BadInput as error:
            failed[job.name] = str(error)
            print(f"[{job.name}] failed: {error}", flush=True)
        return True
    return False
