"""The twin from outside: its process, its clock where time passes when it is told to, and the pictures of that."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from robot.camera import CameraLost, CameraStale, Frame, Lens
from robot.twin.control import ControlClient
from robot.twin.frames import FrameReader
from videopolicy.data.files import LOCK
from videopolicy.errors import BadInput

START = 60.0  # [s] that the process may take to begin


class Twin:
    """A process `python -m robot.twin`. Use as a context manager, which ends it.

    `ask` passes requests of `robot/twin/commands.py` on.
    """

    def __init__(self, folder: Path, *arguments: str, lockstep: bool = False) -> None:
        """`arguments`: more of the command line."""
        self.folder, self.lockstep = folder, lockstep
        self._command = [
            sys.executable,
            "-m",
            "robot.twin",
            str(folder),
            "--child",
            *arguments,
            *["--lockstep"] * lockstep,
        ]

    def __enter__(self) -> "Twin":
        # In a session of its own: Ctrl-C takes the arm to its rest, for which the twin must go on.
        # One thread to draw with: the other core is the control loop's.
        environment = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **os.environ}
        self.process = subprocess.Popen(self._command, env=environment, start_new_session=True)
        end = time.monotonic() + START
        while (client := self._connected()) is None:
            if self.process.poll() is not None:
                raise BadInput(f"the twin in {self.folder} ended with status {self.process.returncode} at its start")
            if time.monotonic() > end:
                self.process.kill()
                raise BadInput(f"the twin in {self.folder} did not start within {START:.0f} s")
            time.sleep(0.02)
        self._client = client
        return self

    def _connected(self) -> ControlClient | None:
        """None until this process, and no other one's, serves the folder."""
        with suppress(OSError):
            if (self.folder / LOCK).read_text().startswith(f"process {self.process.pid} "):
                return ControlClient(self.folder / "control")
        return None

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        return self._client.ask(what, **details)

    @property
    def port(self) -> Path:
        return self.folder / "port"


class LockstepClock:
    """Time passes in the twin while a loop sleeps, and not while it computes: outcomes do not depend on the machine.

    `settled` is called before: what was sent to the arm must have arrived, which asking a motor anything proves.
    """

    def __init__(self, twin: Twin, settled: Callable[[], object]) -> None:
        self.twin, self.settled = twin, settled
        self._now = float(twin.ask("state")["time"])

    def now(self) -> float:
        return self._now

    def sleep_until(self, moment: float) -> None:
        if moment > self._now:
            self.settled()
            self._now = self.twin.ask("step", seconds=moment - self._now)["time"]


class LockstepCamera:
    """The picture of this moment, taken when it is asked for."""

    def __init__(self, twin: Twin, lens: Lens | None = None) -> None:
        self.twin, self._lens, self._path = twin, lens, twin.folder / "camera"
        self._reader = FrameReader(self._path)

    def newest(self, _now: float) -> Frame:
        """`CameraLost` where there is no camera, `CameraStale` where it takes no pictures."""
        if not self._path.exists():
            raise CameraLost(f"{self._path} is gone")
        if not self.twin.ask("picture")["number"]:
            raise CameraStale("no new picture")
        found = self._reader.newest()
        assert found is not None, "it has just been taken"
        number, captured, image = found
        return Frame(image if self._lens is None else self._lens.undistorted(image), captured, number)

    def wait(self, _number: int, _timeout: float) -> Frame:
        return self.newest(0.0)

    def close(self) -> None:
        self._reader.close()
