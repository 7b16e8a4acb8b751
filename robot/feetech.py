"""The servo bus: half duplex at 1 Mbaud, one request at a time, an answer by motor. The only user of pyserial.

Nothing an answer says is believed before its identity, length and checksum are those of what was asked. What the line
still holds from before is read off, and counted, before each request. Answers have no number: one that comes too late
could pass for the next one's. A motor that owes an answer is therefore first asked something whose answer has another
length, and asked no more until it has given that: motors answer in order, so then nothing is owed.
"""

import fcntl
import os
import select
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import serial

from robot import packets
from robot.packets import BROADCAST, Packet, Reader
from robot.registers import Register

BAUD = 1_000_000
BYTE = 10 / BAUD  # [s]
SLACK = 0.005  # [s] that an answer may take beyond its own length and the motors' return delay: USB, scheduling
N_TRIES = 3
FORGET = 0.3  # [s] after which an answer that has not come does not come
STUCK = 0.5  # [s] for which a port that is there takes nothing
LONGEST = 100  # [bytes] of registers that are asked for, to prove that a motor owes nothing
N_FOREIGN = 3  # requests in a row with answers that nobody asked for: there is another master
INVALID = 0x80  # an error byte with this bit is noise


class BusError(RuntimeError):
    """Something about the bus that a program cannot go on without."""


class BusLost(BusError):
    """The port is gone: unplugged, or closed under us."""


class MotorSilent(BusError):
    """A motor did not answer, however often it was asked."""

    def __init__(self, motor: int, name: str, doing: str) -> None:
        self.motor = motor
        super().__init__(f"{name} does not answer ({doing}): is its cable in, its power on, its id {motor}?")


class AnotherMaster(BusError):
    """Answers to questions that this process did not ask: two programs share the bus."""


class Answer:
    """What a motor said: register bytes, and the error bits that came with them."""

    __slots__ = ("data", "errors")

    def __init__(self, data: bytes, errors: int) -> None:
        self.data, self.errors = data, errors

    def value(self, register: Register, first: int | None = None) -> int:
        """A register's value; `first`: the address that the data begin at, where they are of several registers."""
        start = register.address - (register.address if first is None else first)
        return register.decode(self.data[start : start + register.size])


class Bus:
    """A port and the motors on it, `names` by identity. Use as a context manager; one thread at a time.

    `counts` says how often something was not as it should be: "timeout" of a motor, "corrupt" packets, "late",
    "double" and "foreign" answers, "stale" bytes from before a request, "retry"; "withheld" writes of a `dry` bus,
    which only asks.
    """

    def __init__(self, port: str, names: dict[int, str], n_tries: int = N_TRIES, dry: bool = False) -> None:
        self.port, self.names, self.n_tries, self.dry = port, names, n_tries, dry
        self.return_delay = 500e-6  # [s] of a motor before it answers; the factory's until it is known
        self.slack = SLACK
        self.counts: Counter[str] = Counter()
        self._reader = Reader()
        self._owed: dict[
            int, dict[int, float]
        ] = {}  # motor to lengths of answers that it may still give, and since when
        self._foreign_in_a_row = 0
        self._open()

    def _open(self) -> None:
        try:
            self._serial = serial.Serial(self.port, BAUD, timeout=0, exclusive=True)
        except serial.SerialException as error:
            raise BusError(_why(self.port, error)) from error
        self._file = self._serial.fileno()
        with self._line():
            fcntl.ioctl(self._file, termios.TIOCEXCL)  # also against those who do not ask for a lock

    def __enter__(self) -> "Bus":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._serial.is_open:
            with suppress(OSError):  # it is gone
                fcntl.ioctl(self._file, termios.TIOCNXCL)
            self._serial.close()

    def reopen(self) -> None:
        """After `BusLost`, where the port is there again; `BusError` where it is not."""
        self.close()
        self._reader.clear()
        self._owed.clear()
        self._open()

    # -- one motor -----------------------------------------------------------------------------------------------

    def ping(self, motor: int) -> Answer | None:
        """A motor's answer to nothing; None where it has none."""
        if not self._free([motor]):
            return None
        return self._ask(Packet(motor, packets.PING), [motor], 0).get(motor)

    def read(self, motor: int, register: Register) -> int:
        request = Packet(motor, packets.READ, bytes([register.address, register.size]))
        return self._one(request, register.size, f"reading register {register.address}").value(register)

    def write(self, motor: int, register: Register, value: int) -> Answer:
        if self._withheld():
            return Answer(b"", 0)
        request = Packet(motor, packets.WRITE, bytes([register.address]) + register.encode(value))
        return self._one(request, 0, f"writing register {register.address}")

    def prepare(self, motor: int, address: int, data: bytes) -> Answer:
        """Have a motor keep what it is to write when `act` says so."""
        if self._withheld():
            return Answer(b"", 0)
        request = Packet(motor, packets.REG_WRITE, bytes([address]) + data)
        return self._one(request, 0, f"preparing register {address}")

    def act(self) -> None:
        """All motors write what they were given by `prepare`."""
        if not self._withheld():
            self._send(Packet(BROADCAST, packets.ACTION))

    # -- several motors ------------------------------------------------------------------------------------------

    def sync_read(self, address: int, size: int, motors: list[int]) -> dict[int, Answer | None]:
        """`size` bytes of each motor, by motor; None for one that did not answer in time."""
        found: dict[int, Answer | None] = dict.fromkeys(motors)
        asked = motors
        for attempt in range(self.n_tries):
            asked = self._free(asked)
            if not asked:
                break
            self.counts["retry"] += attempt > 0
            found |= self._ask(packets.sync_read(address, size, asked), asked, size)
            asked = [motor for motor in asked if found[motor] is None]
        return found

    def sync_write(self, address: int, values: dict[int, bytes]) -> None:
        """The same registers of several motors, which do not answer."""
        if not self._withheld():
            self._send(packets.sync_write(address, values))

    def broadcast(self, register: Register, value: int) -> None:
        """A register of every motor there is, known or not; none answers."""
        if not self._withheld():
            self._send(Packet(BROADCAST, packets.WRITE, bytes([register.address]) + register.encode(value)))

    def _withheld(self) -> bool:
        """Whether something that changes a motor must not be sent."""
        self.counts["withheld"] += self.dry
        return self.dry

    # -- the line ------------------------------------------------------------------------------------------------

    def _one(self, request: Packet, size: int, doing: str) -> Answer:
        motor = request.id
        for attempt in range(self.n_tries):
            self.counts["retry"] += attempt > 0
            if self._free([motor]) and (answer := self._ask(request, [motor], size).get(motor)):
                return answer
        raise MotorSilent(motor, self.names.get(motor, f"motor {motor}"), doing)

    def _free(self, motors: list[int]) -> list[int]:
        """Those that owe no answer, after those that do were asked for proof."""
        now = time.monotonic()
        for motor in motors:
            still = {size: since for size, since in self._owed.get(motor, {}).items() if now - since < FORGET}
            if motor in self._owed:
                self._owed[motor] = still or {0: now}  # it is asked for proof all the same
        owing = [motor for motor in motors if motor in self._owed]
        if owing:
            sizes = set().union(*(self._owed[motor] for motor in owing))
            size = next((n for n in range(1, LONGEST) if n not in sizes), LONGEST)
            self._ask(packets.sync_read(0, size, owing), owing, size)
        return [motor for motor in motors if motor not in self._owed]

    def _ask(self, request: Packet, motors: list[int], size: int) -> dict[int, Answer]:
        """Send a request, and gather the answers, of `size` bytes each, that are there in time."""
        sent = self._send(request)
        n_bytes = sent + len(motors) * (size + 6)
        end = time.monotonic() + n_bytes * BYTE + len(motors) * self.return_delay + self.slack
        answers: dict[int, Answer] = {}
        foreign, corrupt = 0, self._reader.n_corrupt
        while len(answers) < len(motors):
            data = self._receive(end - time.monotonic())
            if not data:
                break
            for packet in self._reader.feed(data):
                owed = len(packet.parameters) in self._owed.get(packet.id, ())
                if packet.id in answers:
                    self.counts["double"] += 1
                elif packet.id not in motors:
                    foreign += not owed
                elif len(packet.parameters) != size or packet.code & INVALID:
                    self.counts["late" if owed else "corrupt"] += 1
                else:
                    answers[packet.id] = Answer(packet.parameters, packet.code)
        self.counts["corrupt"] += self._reader.n_corrupt - corrupt
        self.counts["foreign"] += foreign
        self._foreign_in_a_row = self._foreign_in_a_row + 1 if foreign else 0
        if self._foreign_in_a_row >= N_FOREIGN:
            raise AnotherMaster(f"{self.port}: answers that nobody here asked for: does another program use the bus?")
        for motor in motors:
            if motor in answers:
                self._owed.pop(motor, None)
            else:
                self.counts["timeout"] += 1
                self._owed.setdefault(motor, {})[size] = time.monotonic()
        return answers

    def _send(self, request: Packet) -> int:
        """Write a packet to a line that holds nothing from before; its length."""
        data = request.to_bytes()
        while left := self._receive(0.0):
            self.counts["stale"] += len(left)
        self._reader.clear()
        with self._line():
            left = data
            while left:  # pyserial's own limit on this also ends where the machine was busy, and the port was not
                _, ready, _ = select.select([], [self._file], [], STUCK)
                if not ready:
                    raise TimeoutError(f"it takes no more bytes for {STUCK:g} s")
                left = left[os.write(self._file, left) :]
        return len(data)

    def _receive(self, patience: float) -> bytes:
        """What there is, or comes within `patience` seconds; nothing after that."""
        with self._line():
            ready, _, _ = select.select([self._file], [], [], max(0.0, patience))
            if not ready:
                return b""
            data = os.read(self._file, 4096)
            if not data:
                raise OSError("end of file")
            return data

    @contextmanager
    def _line(self) -> Iterator[None]:
        """However the system says that the port is gone, it is one exception."""
        try:
            yield
        except (serial.SerialException, OSError, termios.error, ValueError, TypeError) as error:
            raise BusLost(f"{self.port} is gone: {' '.join(str(error).split())}") from error


def _why(port: str, error: serial.SerialException) -> str:
    """Why a port could not be opened, and what to do."""
    if not os.path.exists(port):
        return f"no port {port}; is the arm plugged in?"
    if error.errno in (11, 16):
        return f"{port} is used by another program; end it first"
    if error.errno == 13:
        return f"no permission to open {port}; on Linux: add yourself to the group dialout"
    return f"cannot open {port}: {' '.join(str(error).split())}"
