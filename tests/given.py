"""What tests are given. Shapes in signatures are checked here only: the hook stands before the first import of ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from jaxtyping import install_import_hook

install_import_hook(["videopolicy", "train_stages"], "beartype.beartype")

import arms  # noqa: E402
import builders  # noqa: E402
import flows  # noqa: E402
import warm  # noqa: E402

from eval import pool  # noqa: E402
from eval.pool import Worker  # noqa: E402
from robot.control import Control  # noqa: E402
from robot.twin.line import Line  # noqa: E402
from videopolicy.backbones import pipeline  # noqa: E402
from videopolicy.camera import Camera  # noqa: E402

# Two test processes with one thread each: with two, either waits for the other's most of the time.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def warm_simulators() -> Iterator[None]:
    """A pool's simulators are the next pool's, which need not start any."""
    with warm.simulators():
        yield


@pytest.fixture
def cold_simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pool starts its own, for tests of what a process that was just started does."""
    monkeypatch.setattr(pool, "Worker", Worker)


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """Accelerate keeps precision and device for a process's life, torch its threads: no test inherits another's."""
    yield
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def camera() -> Camera:
    """LIBERO's agentview at 224 pixels."""
    return builders.agentview()


@pytest.fixture(scope="session")
def written_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic episodes at 64 pixels; read only."""
    return builders.write_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture
def small_dataset(tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return builders.write_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Video Diffusion folder of toy size, made for 64 pixels and 4 frames; read only."""
    folder = tmp_path_factory.mktemp("weights") / "toy"
    pipeline.save(pipeline.create(builders.TOY, seed=0), folder)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the debug configurations make, from the corpus to the report; read only."""
    folder = tmp_path_factory.mktemp("flow")
    flows.make(folder)
    return folder


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """Emulated motors, the arm at rest."""
    with arms.line(tmp_path, arms.REST) as line:
        yield line


@pytest.fixture
def clock(line: Line) -> arms.FakeClock:
    return arms.FakeClock(line)


@pytest.fixture
def control(line: Line, clock: arms.FakeClock) -> Iterator[Control]:
    """Of them, with torque, nothing to do yet."""
    with arms.driven(line, clock) as control:
        yield control
