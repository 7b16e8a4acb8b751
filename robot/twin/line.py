"""A serial line with emulated servos at its other end: a pseudo-terminal, and what can go wrong on it."""

import os
import select
import threading
import time
import tty
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from robot import packets
from robot.feetech import BYTE
from robot.packets import BROADCAST, Packet, Reader
from robot.registers import RETURN_DELAY
from robot.twin.servo import Servo

Mishap = Callable[
    [bytes], list[tuple[float, bytes]]
]  # an answer to what arrives instead: bytes, and how long [s] after those before
KEPT = 20_000  # packets that the monitor remembers


class Line:
    """Answers at `port`, a link to a pseudo-terminal, in a thread of its own. Use as a context manager.

    `heard` are the packets that arrived, with their time. `mishaps` befall a motor's next answers, one each;
    `always` befalls all of them. With `wire` an answer takes the time that its bytes would at 1 Mbaud.
    """

    def __init__(self, port: Path, servos: dict[int, Servo], wire: bool = True) -> None:
        self.port, self.servos, self.wire = port, servos, wire
        self.heard: deque[tuple[float, Packet]] = deque(maxlen=KEPT)
        self.mishaps: dict[int, deque[Mishap]] = defaultdict(deque)
        self.always: dict[int, Mishap] = {}
        self.lock = threading.Lock()  # of the servos
        self._reader = Reader()
        self._ends: tuple[int, int] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Line":
        self.plug()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.unplug()

    def plug(self) -> None:
        """Give the port a line; a new one after `unplug`."""
        master, slave = os.openpty()
        for end in (master, slave):
            tty.setraw(end)
        link = self.port.with_name(f".{self.port.name}.new")
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        link.replace(self.port)
        self._ends = (master, slave)

    def unplug(self) -> None:
        """Pull the cable: whoever has the port open loses it. The motors go on doing what they did."""
        if self._ends is not None:
            ends, self._ends = self._ends, None
            self.port.unlink(missing_ok=True)
            for end in ends:
                os.close(end)

    def say(self, data: bytes) -> None:
        """Noise, or somebody else's packets, out of nowhere."""
        if self._ends is not None:
            os.write(self._ends[0], data)

    def _serve(self) -> None:
        while not self._ended.is_set():
            ends = self._ends
            if ends is None:
                time.sleep(0.005)
                continue
            try:
                ready, _, _ = select.select([ends[0]], [], [], 0.05)
                data = os.read(ends[0], 4096) if ready else b""
            except (OSError, ValueError):  # unplugged meanwhile
                continue
            for packet in self._reader.feed(data):
                self.heard.append((time.monotonic(), packet))
                self._reply(ends[0], self._answers(packet))

    def _answers(self, packet: Packet) -> list[tuple[int, bytes]]:
        """What motors say to a packet: motor, parameters."""
        data = packet.parameters
        with self.lock:
            if packet.code == packets.SYNC_READ:
                return [(i, self.servos[i].read(data[0], data[1])) for i in data[2:] if i in self.servos]
            if packet.code == packets.SYNC_WRITE:
                size = data[1]
                for at in range(2, len(data), size + 1):
                    if data[at] in self.servos:
                        self.servos[data[at]].write(data[0], data[at + 1 : at + 1 + size])
                return []
            one = [packet.id] if packet.id in self.servos else []
            found = [
                (i, self._answer(self.servos[i], packet)) for i in (self.servos if packet.id == BROADCAST else one)
            ]
            everybody = packet.id == BROADCAST and packet.code != packets.PING
            return [] if everybody else [(i, answer) for i, answer in found if answer is not None]

    def _answer(self, servo: Servo, packet: Packet) -> bytes | None:
        data = packet.parameters
        if packet.code == packets.PING:
            return b""
        if packet.code == packets.READ:
            return servo.read(data[0], data[1])
        if packet.code == packets.WRITE:
            servo.write(data[0], data[1:])
        elif packet.code == packets.REG_WRITE:
            servo.prepare(data[0], data[1:])
        elif packet.code == packets.ACTION:
            servo.act()
        return b"" if servo.answers_writes else None

    def _reply(self, end: int, answers: list[tuple[int, bytes]]) -> None:
        """In order: what is late holds up what comes behind it, as on any line."""
        data, seconds = b"", 0.0
        for motor, parameters in answers:
            servo = self.servos[motor]
            whole = Packet(motor, servo.errors, parameters).to_bytes()
            seconds += self.wire * (len(whole) * BYTE + 2e-6 * servo.get(RETURN_DELAY))
            waiting = self.mishaps[motor]
            mishap = waiting.popleft() if waiting else self.always.get(motor)
            for delay, piece in [(0.0, whole)] if mishap is None else mishap(whole):
                if delay:
                    _write(end, data, seconds)
                    data, seconds = b"", delay
                data += piece
        _write(end, data, seconds)


def _write(end: int, data: bytes, seconds: float) -> None:
    """After a time; nothing where the line was unplugged meanwhile."""
    if seconds:
        time.sleep(seconds)
    with suppress(OSError):
        os.write(end, data)
