"""A local socket that takes requests and answers them, JSON line by line; both ends of it."""

import json
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from videopolicy.errors import BadInput

LONGEST = 1 << 22  # [bytes] of a request


class ControlServer:
    """Serves one client at a time on a socket file that only its owner may open. Use as a context manager."""

    def __init__(self, path: Path, answer: Callable[[Any], dict[str, Any]]) -> None:
        path.unlink(missing_ok=True)
        self.path, self.answer = path, answer
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        aside = path.with_name(f".{path.name}.new")
        aside.unlink(missing_ok=True)
        self._listening.bind(str(aside))
        aside.chmod(0o600)
        self._listening.listen(1)
        aside.replace(path)  # it is there when it can be connected to
        self._client: socket.socket | None = None
        self._begun = b""

    def __enter__(self) -> "ControlServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()
        self._listening.close()
        self.path.unlink(missing_ok=True)

    def serve(self, patience: float) -> None:
        """Answer what comes, until nothing has come for `patience` seconds or something was answered."""
        waiting = self._client or self._listening
        ready, _, _ = select.select([waiting], [], [], patience)
        if not ready:
            return
        if self._client is None:
            self._client, _ = self._listening.accept()
            return
        try:
            data = self._client.recv(1 << 16)
        except OSError:
            data = b""
        self._begun += data
        if not data or len(self._begun) > LONGEST:
            self._drop()
            return
        *lines, self._begun = self._begun.split(b"\n")
        for line in lines:
            try:
                found = self.answer(json.loads(line))
            except (ValueError, BadInput) as error:
                found = {"error": str(error)}
            try:
                self._client.sendall(json.dumps(found).encode() + b"\n")
            except OSError:
                self._drop()
                return

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client, self._begun = None, b""


class ControlClient:
    """Asks a `ControlServer`; `BadInput` for what it does not take, `ConnectionError` where it is gone."""

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        """`patience`: [s] for an answer."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        self._socket.sendall(json.dumps({"do": what, **details}).encode() + b"\n")
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the twin has ended")
        found = json.loads(line)
        if "error" in found:
            raise BadInput(f"the twin: {found['error']}")
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()
