"""Until something has happened that another process does."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], patience: float = 60.0) -> None:
    """For at most so many seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
