"""The bus, against emulated motors and against the vendor's own program; nothing wrong is ever believed."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import arms
import pytest
import scservo_sdk as sdk

from robot import registers as r
from robot.feetech import AnotherMaster, Bus, BusError, BusLost, MotorSilent
from robot.twin import mishaps
from robot.twin.line import Line, Mishap

ALL = [1, 2, 3, 4, 5, 6]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with arms.line(tmp_path) as line:
        yield line


@pytest.fixture
def bus(line: Line) -> Iterator[Bus]:
    with Bus(str(line.port), arms.MOTORS) as bus:
        bus.return_delay, bus.slack = 0.0, arms.SLACK
        yield bus


def positions(line: Line) -> dict[int, int]:
    return {i: round(s.actual) - s.get(r.HOMING_OFFSET) for i, s in line.servos.items()}


def read(bus: Bus) -> dict[int, int | None]:
    found = bus.sync_read(r.PRESENT_POSITION.address, 2, ALL)
    return {i: None if a is None else a.value(r.PRESENT_POSITION) for i, a in found.items()}


def test_motors_are_read_and_written(bus: Bus, line: Line) -> None:
    assert [i for i in range(8) if bus.ping(i) is not None] == ALL
    assert bus.read(3, r.MODEL_NUMBER) == 777
    assert bus.read(1, r.HOMING_OFFSET) == -80
    assert read(bus) == positions(line)
    bus.write(2, r.GOAL_POSITION, 1500)
    assert line.servos[2].get(r.GOAL_POSITION) == 1500
    bus.sync_write(r.GOAL_POSITION.address, {i: r.GOAL_POSITION.encode(2000 + i) for i in ALL})
    assert [bus.read(i, r.GOAL_POSITION) for i in ALL] == [2001, 2002, 2003, 2004, 2005, 2006]


def test_what_is_prepared_waits(bus: Bus, line: Line) -> None:
    for i in (1, 2):
        bus.prepare(i, r.GOAL_POSITION.address, r.GOAL_POSITION.encode(1111))
    assert {line.servos[i].get(r.GOAL_POSITION) for i in (1, 2)} == {0}
    bus.act()
    assert [bus.read(i, r.GOAL_POSITION) for i in (1, 2, 3)] == [1111, 1111, 0]


def test_the_lock_keeps_what_lasts(bus: Bus) -> None:
    bus.write(1, r.HOMING_OFFSET, 300)
    assert bus.read(1, r.HOMING_OFFSET) == -80
    bus.write(1, r.LOCK, 0)
    bus.write(1, r.HOMING_OFFSET, 300)
    assert bus.read(1, r.HOMING_OFFSET) == 300


MISHAPS: dict[str, tuple[Mishap, str | None]] = {
    "silent": (mishaps.silent, "timeout"),
    "corrupt": (mishaps.corrupt, "corrupt"),
    "short": (mishaps.short, "corrupt"),
    "an error byte that is noise": (mishaps.error(0x85), "corrupt"),
    "foreign": (mishaps.foreign(9), "foreign"),
    "behind noise": (mishaps.noise(b"\x00\xff\xff\x07\xff\xff\xff\x13"), None),
    "dripping": (mishaps.dripping(0.0003), None),
}


@pytest.mark.parametrize("name", MISHAPS)
def test_one_mishap_costs_a_try_at_most(bus: Bus, line: Line, name: str) -> None:
    """Values are right, what happened is counted, and the next request is as any."""
    mishap, counted = MISHAPS[name]
    line.mishaps[3].append(mishap)
    assert read(bus) == positions(line)
    if counted:
        assert bus.counts[counted] >= 1, bus.counts
    line.mishaps[3].append(mishap)
    assert bus.read(3, r.MODEL_NUMBER) == 777
    assert read(bus) == positions(line)


@pytest.mark.parametrize("seconds", [0.004, 0.028, 0.032, 0.06, 0.15])
def test_a_late_answer_is_never_anothers(bus: Bus, line: Line, seconds: float) -> None:
    """Answers have no number: a position that comes late must not pass for a model number, nor for a newer position."""
    for _ in range(3):
        line.mishaps[3].append(mishaps.late(seconds))
        with contextlib.suppress(MotorSilent):
            assert bus.read(3, r.MODEL_NUMBER) == 777
        line.servos[3].actual += 10
        seen = read(bus)[3]
        assert seen in (None, positions(line)[3])
    end = time.monotonic() + 2
    while None in read(bus).values() and time.monotonic() < end:
        pass
    assert read(bus) == positions(line)


def test_an_answer_from_before_is_not_believed(bus: Bus, line: Line) -> None:
    """Twice, or left in the buffer: read off before the next request."""
    line.mishaps[3].append(mishaps.twice)
    stale = bus.read(3, r.PRESENT_POSITION)
    line.servos[3].actual += 500
    assert bus.read(3, r.PRESENT_POSITION) == stale + 500
    line.say(bytes.fromhex("ff ff 01 04 00 e7 03 10"))  # 999 of motor 1
    while not bus._serial.in_waiting:
        pass
    assert bus.read(1, r.PRESENT_POSITION) == positions(line)[1]
    assert bus.counts["stale"] + 8 * bus.counts["double"] == 16


def test_a_silent_motor_is_one_motor(bus: Bus, line: Line) -> None:
    """The others are heard; asked by itself, it is named."""
    line.always[4] = mishaps.silent
    assert read(bus) == positions(line) | {4: None}
    with pytest.raises(MotorSilent, match=r"wrist_flex does not answer .*is its cable in, its power on, its id 4"):
        bus.read(4, r.PRESENT_POSITION)


def test_errors_come_with_the_motor(bus: Bus, line: Line) -> None:
    line.servos[5].errors = 32 | 4
    found = bus.sync_read(r.PRESENT_POSITION.address, 2, ALL)
    assert {i: a.errors for i, a in found.items() if a} == dict.fromkeys(ALL, 0) | {5: 36}


def test_another_master_is_noticed(bus: Bus, line: Line) -> None:
    for i in ALL:
        line.always[i] = mishaps.foreign(9)
    for _ in range(2):
        assert read(bus) == positions(line)
    with pytest.raises(AnotherMaster, match="does another program use the bus"):
        read(bus)


def test_a_busy_machine_is_no_lost_port(bus: Bus, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be put aside between writing and looking at the clock, for longer than a port may be stuck."""
    write = os.write

    def held_up(file: int, data: bytes) -> int:
        if file == bus._file:
            time.sleep(0.6)
        return write(file, data)

    monkeypatch.setattr(os, "write", held_up)
    assert bus.read(3, r.MODEL_NUMBER) == 777
    assert bus.counts.total() == 0


def test_a_port_that_takes_nothing_is_lost(bus: Bus, line: Line) -> None:
    """Nobody reads at its other end, and it is full."""
    line._ended.set()
    line._thread.join()

    def fill() -> None:
        for _ in range(10_000):
            bus.act()

    with pytest.raises(BusLost, match=r"port is gone: it takes no more bytes for 0.5 s"):
        fill()


def test_unplugging_is_one_exception(bus: Bus, line: Line) -> None:
    assert read(bus) == positions(line)
    line.unplug()
    for ask in (lambda: read(bus), lambda: bus.ping(1), lambda: bus.broadcast(r.TORQUE_ENABLE, 0)):
        with pytest.raises(BusLost, match="is gone"):
            ask()
    bus.close()
    with pytest.raises(BusError, match="is the arm plugged in"):
        Bus(str(line.port), arms.MOTORS)
    line.plug()
    with Bus(str(line.port), arms.MOTORS) as again:
        again.slack = arms.SLACK
        assert read(again) == positions(line)


def test_one_program_has_the_port(bus: Bus, line: Line) -> None:
    with pytest.raises(BusError, match="is used by another program; end it first"):
        Bus(str(line.port), arms.MOTORS)
    if os.geteuid():  # root may open what is locked
        with pytest.raises(OSError, match="busy"), contextlib.closing(sdk.PortHandler(str(line.port))) as port:
            port.openPort()


def test_the_vendors_program_understands_the_emulator(line: Line) -> None:
    """The independent peer: pings, reads, writes, reads and writes of several at once."""
    port, handler = sdk.PortHandler(str(line.port)), sdk.PacketHandler(0)
    assert port.openPort()
    try:
        port.setBaudRate(1_000_000)
        assert handler.ping(port, 1) == (777, sdk.COMM_SUCCESS, 0)
        assert handler.read2ByteTxRx(port, 3, 56) == (positions(line)[3], sdk.COMM_SUCCESS, 0)
        assert handler.write2ByteTxRx(port, 2, 42, 1700) == (sdk.COMM_SUCCESS, 0)
        reader = sdk.GroupSyncRead(port, handler, 56, 2)
        for i in ALL:
            reader.addParam(i)
        assert reader.txRxPacket() == sdk.COMM_SUCCESS
        assert {i: reader.getData(i, 56, 2) for i in ALL} == positions(line)
        writer = sdk.GroupSyncWrite(port, handler, 42, 2)
        for i in ALL:
            writer.addParam(i, [0x08, 0x07])
        assert writer.txPacket() == sdk.COMM_SUCCESS
        assert handler.read2ByteTxRx(port, 6, 42) == (0x0708, sdk.COMM_SUCCESS, 0)
    finally:
        port.closePort()
    with Bus(str(line.port), arms.MOTORS) as bus:  # and the bus reads what it wrote
        assert [bus.read(i, r.GOAL_POSITION) for i in ALL] == [0x0708] * 6
