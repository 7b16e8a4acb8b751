"""The loop in real time and its record, in a time of its own; what ends it lets go of the arm."""

from pathlib import Path

import arms
import numpy as np
import pytest
from arms import FakeClock, chunk, tool

from robot import loop, telemetry
from robot import registers as r
from robot.control import Control, Mode, Tick
from robot.droop import Droop
from robot.packets import BROADCAST, SYNC_WRITE, WRITE
from robot.twin.line import Line
from videopolicy.errors import BadInput

ALL = np.full(5, True)  # joints are heard of


def test_the_loop_keeps_time_and_a_record(control: Control, clock: FakeClock, line: Line, tmp_path: Path) -> None:
    control.submit(chunk(tool(control)), clock.time)
    asked = clock.time + 2.0
    with telemetry.Telemetry(tmp_path / "log") as record:
        cadence = loop.run(control, clock, record.add, park=lambda: clock.time > asked)
    table = telemetry.read(tmp_path / "log")
    assert len(table) == cadence.n_ticks > 100
    assert cadence.rate == pytest.approx(50.0, rel=1e-3)
    assert cadence.n_skipped == 0
    assert table["mode"].to_pylist()[-1] == "off"
    assert table["tick"].to_pylist() == sorted(table["tick"].to_pylist())
    assert "50.000 Hz" in str(cadence)


def test_stopping_lets_go_at_once(control: Control, clock: FakeClock, line: Line) -> None:
    control.submit(chunk(tool(control)), clock.time)
    asked = clock.time + 0.5
    line.heard.clear()
    rows: list[Tick] = []
    loop.run(control, clock, rows.append, stopped=lambda: clock.time > asked)
    assert control.mode is Mode.STOPPED
    assert rows[-1].now == pytest.approx(asked, abs=0.03)
    codes = [(p.id, p.code, p.parameters) for _, p in line.heard]
    off = codes.index((BROADCAST, WRITE, b"\x28\x00"))
    assert not [x for x in codes[off + 1 :] if x[1] in (WRITE, SYNC_WRITE)]


def test_a_program_that_fails_lets_go_of_the_arm(control: Control, clock: FakeClock, line: Line) -> None:
    def write(_row: Tick) -> None:
        raise ZeroDivisionError("somebody's fault")

    with pytest.raises(ZeroDivisionError):
        loop.run(control, clock, write)
    assert control.mode is Mode.STOPPED
    assert [servo.get(r.TORQUE_ENABLE) for servo in line.servos.values()] == [0] * 6


def test_what_servos_are_short_of_is_made_up_for() -> None:
    """A load of two degrees at the shoulder: gone within two seconds; a collision adds no more than the limit."""
    droop, goal = Droop(2.0, np.radians(5)), np.zeros(5)
    load = np.radians([0.0, 2.0, 1.0, 0.0, 0.0])
    position = np.zeros(5) + load
    for _ in range(100):
        position = droop.update(goal, position, ALL, 0.02) + load
    np.testing.assert_allclose(position, goal, atol=np.radians(0.1))
    for _ in range(1000):
        sent = droop.update(goal, goal + 0.05, ALL, 0.02)
    np.testing.assert_allclose(sent, np.full(5, -np.radians(5)))
    np.testing.assert_array_equal(Droop(0.0, 1.0).update(goal, goal + 0.05, ALL, 0.02), goal)


def test_what_is_blocked_or_silent_is_not_made_up_for() -> None:
    droop, goal = Droop(2.0, np.radians(5)), np.zeros(5)
    heard = np.array([True, False, True, True, True])
    for _ in range(200):
        droop.update(goal, goal - np.array([0.2, 0.03, 0.0, 0.0, 0.0]), heard, 0.02)
    np.testing.assert_array_equal(droop.added, 0.0)


def test_a_servo_that_lags_is_not_one_that_droops() -> None:
    """Three ticks behind a goal that moves at a steady rate, as servos are: nothing is added."""
    droop = Droop(2.0, np.radians(5))
    goals = 0.02 * np.arange(60)[:, None] * np.ones(5)
    for i, goal in enumerate(goals):
        droop.update(goal, goals[max(i - 3, 0)], ALL, 0.02)
    np.testing.assert_allclose(droop.added, 0.0, atol=1e-12)


def test_telemetry_is_written_in_files_and_none_is_lost(control: Control, clock: FakeClock, tmp_path: Path) -> None:
    rows = arms.go(control, clock, 0.5)
    for _ in range(2):
        with telemetry.Telemetry(tmp_path / "log", per_file=10) as record:
            for row in rows:
                record.add(row)
    assert [row["tick"] for row in telemetry.read(tmp_path / "log").to_pylist()] == 2 * [row.tick for row in rows]
    assert len(telemetry.files(tmp_path / "log")) >= 4


def test_telemetry_that_cannot_be_written_is_said(control: Control, clock: FakeClock, tmp_path: Path) -> None:
    (row,) = arms.go(control, clock, 0.015)
    record = telemetry.Telemetry(tmp_path / "log", per_file=1)
    (tmp_path / "log").rmdir()
    (tmp_path / "log").write_text("in the way")
    record.add(row)
    with pytest.raises(BadInput, match="log"):
        record.__exit__()
