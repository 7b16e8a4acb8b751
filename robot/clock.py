"""Time, as a control loop needs it: asked, and slept until."""

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    def now(self) -> float: ...

    def sleep_until(self, moment: float) -> None: ...


class MonotonicClock:
    """The system's; the same for all processes of a machine."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        """Return at a moment, or at once where it has passed."""
        left = moment - time.monotonic()
        if left > 0:
            time.sleep(left)
