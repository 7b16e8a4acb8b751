"""A policy that acts in another process, from this side: a crash or a hang there is an exception here."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from robot.messages import chunk_from_json, observation_to_json
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk, Observation

START = 120.0  # [s] that loading may take


class PolicyGone(RuntimeError):
    """The policy's process has ended, hangs, or answers nonsense."""


class PolicyProcess:
    """A `Policy`. Use as a context manager, which starts the process and ends it."""

    def __init__(
        self, run: Path, patience: float = 5.0, threads: int = 1, device: str = "cpu", heatmaps: bool = False
    ) -> None:
        """`patience`: [s] for a chunk, after which the process counts as hung and is killed.

        `heatmaps`: chunks of a pixel-aligned head come with theirs.
        """
        self.run, self.patience = run, patience
        self._module = ["robot.policy_server"]
        self._options = [str(run), "--threads", str(threads), "--device", device, *["--heatmaps"] * heatmaps]

    def __enter__(self) -> "PolicyProcess":
        if not self.run.is_dir():
            raise BadInput(
                f"no run {self.run}; allowed: a folder of train_stages/light.py, joint.py or videopolicy.export"
            )
        mine, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", *self._module, str(theirs.fileno()), *self._options]
            # In a group of its own, so that Ctrl-C, which parks the arm, does not end it first.
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True
            )
        self._socket, self._begun = mine, b""
        try:
            self.about = self._answer(START)
        except PolicyGone as error:
            self.close()
            raise BadInput(f"the policy {self.run} did not start: {error}") from error
        if "error" in self.about:
            self.close()
            raise BadInput(str(self.about["error"]))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def act(self, observation: Observation) -> ActionChunk:
        """`PolicyGone` says what has become of it."""
        header = json.dumps(observation_to_json(observation)).encode() + b"\n"
        try:
            self._socket.settimeout(self.patience)
            self._socket.sendall(header + observation.image.tobytes())
        except OSError as error:
            raise PolicyGone(self._why(f"it does not listen ({error})")) from error
        answer = self._answer(self.patience)
        try:
            return chunk_from_json(answer)
        except (ValueError, KeyError, TypeError) as error:
            raise PolicyGone(f"its answer is no chunk: {' '.join(str(error).split())}") from error

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]

    def _answer(self, patience: float) -> dict[str, Any]:
        end = time.monotonic() + patience
        while b"\n" not in self._begun:
            ready, _, _ = select.select([self._socket], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.process.kill()
                raise PolicyGone(f"no answer within {patience:g} s: it hangs, and was ended")
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                raise PolicyGone(self._why("it has ended"))
            self._begun += data
        line, _, self._begun = self._begun.partition(b"\n")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise PolicyGone(f"its answer is a {type(found).__name__}, not an object")
        return found

    def _why(self, what: str) -> str:
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return what
        return f"{what}: {f'killed by signal {-status}' if status < 0 else f'status {status}'}"
