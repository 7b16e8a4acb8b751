"""How a program that uses an arm begins and ends: what goes wrong is one line; a signal takes the arm to its rest."""

import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from robot.control import Control
from videopolicy.config import guarded
from videopolicy.errors import BadInput


def start(main: Callable[[], object]) -> None:
    """Run a program's whole work. What bus, camera, policy or twin complain of is a line, as bad input is."""
    guarded(lambda: _told(main))


def _told(main: Callable[[], object]) -> None:
    try:
        main()
    except (RuntimeError, ConnectionError, TimeoutError) as error:  # those of bus, camera and policy are RuntimeErrors
        raise BadInput(" ".join(str(error).split()) or type(error).__name__) from error


@dataclass
class Requests:
    """What the person at the keyboard wants, from `listen` on."""

    park: bool = False
    stop: bool = False

    def listen(self) -> None:
        """Ctrl-C, an end that is asked for and a terminal that is closed all take the arm to its rest."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signal)

    def look(self) -> bool:
        """Whether to stop at once: the line `stop` was typed."""
        if sys.stdin and sys.stdin.isatty() and select.select([sys.stdin], [], [], 0)[0]:
            self.stop |= sys.stdin.readline().strip() == "stop"
        return self.stop

    def _signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self.park:
            print("going to rest; `stop` and Enter lets go at once", flush=True)
        self.park = True


def confirm(control: Control) -> None:
    """`BadInput` where a motor was let go of and did not say that it has."""
    if control.unconfirmed:
        raise BadInput(f"{', '.join(control.unconfirmed)} did not confirm that torque is off: cut the arm's power")
