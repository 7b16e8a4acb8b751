"""Two processes that train as one, forked from a server that has imported everything once."""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import deepspeed  # noqa: F401  # imported here, so that no process has to again
import pytest

from train_stages import joint, video  # noqa: F401
from videopolicy.config import guarded

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
PATIENCE = 200.0  # [s]
TESTS = Path(__file__).parent


def run(work: Callable[..., object], *args: object, **variables: str) -> str:
    """What both print; `AssertionError` where either fails."""
    path = ":".join(str(folder) for folder in (TESTS, TESTS.parent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)  # of the server, which in this Python knows no other
        forkserver.ensure_running()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(rank) for rank in range(2)]
        processes = [
            CONTEXT.Process(target=_one, args=(i, port, log, variables, work, args)) for i, log in enumerate(logs)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
        said = "".join(log.read_text() for log in logs if log.exists())
    assert [process.exitcode for process in processes] == [0, 0], said[-2000:]
    return said


def _one(rank: int, port: int, log: Path, variables: dict[str, str], work: Callable[..., object], args: tuple) -> None:
    """One of them, as torch's launcher would start it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", **variables}
    guarded(lambda: work(*args))
