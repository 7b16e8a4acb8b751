"""The control loop in real time: ticks on absolute deadlines, and how well they were kept."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot.clock import Clock
from robot.control import Control, Tick

BEHIND = 5  # ticks that the loop may be late before it lets them go instead of catching up


@dataclass(frozen=True)
class Cadence:
    """How regular a loop was; jitter is how late its ticks began [s]."""

    n_ticks: int
    rate: float  # mean, ticks a second
    median: float
    p99: float
    worst: float
    n_skipped: int

    def __str__(self) -> str:
        late = ", ".join(f"{name} {1000 * x:.2f} ms" for name, x in (("median", self.median), ("p99", self.p99)))
        return (
            f"{self.n_ticks} ticks at {self.rate:.3f} Hz, late by {late}, at most {1000 * self.worst:.1f} ms;"
            f" {self.n_skipped} skipped"
        )


def run(
    control: Control,
    clock: Clock,
    write: Callable[[Tick], object],
    stopped: Callable[[], bool] = lambda: False,
    park: Callable[[], bool] = lambda: False,
) -> Cadence:
    """Tick until the control has ended. `park` asks it to go to rest, `stopped` lets go of the arm at once.

    An exception, of a program's fault, lets go of the arm and passes through.
    """
    period = 1 / control.cfg.rate
    begun = due = clock.now()
    late: list[float] = []
    n_skipped, asked = 0, False
    try:
        while not control.ended:
            clock.sleep_until(due)
            now = clock.now()
            late.append(max(0.0, now - due))
            if stopped():
                control.emergency_stop("stopped by hand")
            elif not asked and park():
                control.park("asked to stop")
                asked = True
            write(control.tick(now))
            due += period
            if (behind := clock.now() - due) > BEHIND * period:
                n_skipped += int(behind / period)
                due += int(behind / period) * period
    except BaseException as error:
        control.emergency_stop(f"{type(error).__name__}: {error}")
        raise
    spent = clock.now() - begun
    values = np.array(late)
    return Cadence(
        len(late),
        (len(late) - 1) / spent if len(late) > 1 else 0.0,
        float(np.median(values)),
        float(np.quantile(values, 0.99)),
        float(values.max()),
        n_skipped,
    )
