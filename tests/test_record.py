"""Demonstrations by hand: pictures and states that belong together, commands that a gripper obeys, none by halves."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import twins

from robot import record, replay, show
from robot.connection import Connection, connect
from robot.demonstration import Demonstration, commanded
from robot.mounting import read_mounted
from robot.record import Recorder
from robot.twin.hand import jaw, lead
from robot.twin.scenes import demonstrated
from videopolicy.data import doctor
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with connect(twins.settings(tmp_path_factory.mktemp("robot"))) as robot:
        yield robot


@pytest.fixture(scope="module")
def shown(robot: Connection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two demonstrations, of a cup that is put on a saucer."""
    folder = tmp_path_factory.mktemp("data") / "shown"
    recorder = Recorder(robot, folder, show.TASK, 5)
    for number, chosen in enumerate(demonstrated(2)):
        assert "100 % of 5 Hz" in show.show(robot.twin, recorder, chosen, number)
    recorder.writer.finish()
    return folder


def test_what_is_recorded_is_sound_and_what_was_shown(shown: Path, robot: Connection) -> None:
    doctor.main(shown)
    data = Dataset(shown)
    assert len(data) == 2
    assert data.fps == 5
    assert data.info["robot_type"] == "so100"
    state, action = data.state(0), data.action(0)
    np.testing.assert_allclose(action[:-1, :3], state[1:, :3], atol=1e-6)
    assert set(np.unique(action[:, 3])) == {0.0, 1.0}
    closed = np.flatnonzero(action[:, 3] == 0)
    assert np.all(np.diff(closed) == 1)  # it closes once, and opens once
    assert 0.15 < state[closed[3:-3], 3].mean() < 0.35  # at the cup's width, not shut
    chosen = demonstrated(1)[0]
    np.testing.assert_allclose(state[closed[3], :2], chosen.cup, atol=0.015)
    assert state[closed[3], 2] == pytest.approx(0.028, abs=0.006)
    np.testing.assert_allclose(state[closed[-1], :2], chosen.saucer, atol=0.02)
    extra = data.extras()[0]
    assert len(extra["captured"]) == len(state)
    assert np.diff(extra["captured"]) == pytest.approx(np.full(len(state) - 1, 0.2), abs=0.021)
    _, mounted, _ = read_mounted(robot.settings.calibration)
    np.testing.assert_allclose(data.camera_of(0).T_world_cam, mounted.T, atol=1e-9)


def test_training_takes_it_as_it_is(shown: Path) -> None:
    """For image networks and for the video model, whose clips are longer."""
    for n_frames, n_steps in ((1, 12), (7, 12)):
        _, clips, _ = open_splits(DataConfig(root=shown, n_val_episodes=0), n_frames, n_steps, (64, 64))
        sample = clips[10]
        assert sample["frames"].shape[0] == n_frames
        assert sample["valid"].all()
        inside = (sample["pixel"] >= 0) & (sample["pixel"] <= 64)
        assert inside.all()


def test_it_is_replayed(shown: Path, robot: Connection) -> None:
    """The cup goes where it went."""
    data, twin = Dataset(shown), robot.twin
    assert twin is not None
    chosen = demonstrated(1)[0]
    twin.ask("lead", path=None)
    twin.ask("place", name="saucer", xy=chosen.saucer)
    twin.ask("place", name="cup", xy=chosen.cup)
    action = data.action(0)
    control = replay.replay(robot, action[:, :3], action[:, 3], 1 / data.fps)
    state = twin.ask("state")
    away = np.subtract(state["cup"]["position"], state["saucer"]["position"])
    assert np.hypot(*away[:2]) < 0.03
    assert control.mode.value == "off"
    assert state["torque"] == [False] * 6


def test_a_slow_camera_is_refused(robot: Connection) -> None:
    """Of a camera that gives half the pictures nothing is kept."""
    recorder_arm = robot.arm(read_mounted(robot.settings.calibration)[0])
    camera = robot.camera()

    class Half:
        """Each picture twice."""

        def __init__(self) -> None:
            self.n = 0

        def newest(self, now: float) -> object:
            self.n += 1
            self.last = camera.newest(now) if self.n % 20 == 1 else self.last
            return self.last

        wait = None

    shown = Demonstration(recorder_arm, Half(), robot.clock, 5, 0.0)
    for _ in range(150):
        shown.tick()
    with pytest.raises(BadInput, match=r"5\d % of 5 Hz.*allowed: 95 % or more: is the machine busy"):
        shown.check()
    with pytest.raises(BadInput, match="0 pictures, 0 states of the arm"):
        Demonstration(recorder_arm, camera, robot.clock, 5, 0.0).check()


def test_a_motor_that_falls_silent_is_not_made_up(robot: Connection) -> None:
    arm, twin = robot.arm(read_mounted(robot.settings.calibration)[0]), robot.twin
    assert twin is not None
    shown = Demonstration(arm, robot.camera(), robot.clock, 5, 0.0)
    robot.bus.slack = 0.02
    for i in range(100):
        if i in (50, 75):
            twin.ask("mishap", joint="elbow_flex", kind="silent" if i == 50 else None, always=True)
        shown.tick()
    robot.bus.slack = 2.0
    with pytest.raises(BadInput, match=r"a motor was not heard of for 0\.[45]\d s; allowed: 0\.2"):
        shown.check()


def test_commands_of_a_hand_are_open_or_closed() -> None:
    opening = np.array([0.8, 0.8, 0.5, 0.3, 0.25, 0.25, 0.3, 0.6, 0.8])
    np.testing.assert_array_equal(commanded(opening), [1, 1, 0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(commanded(np.full(3, 0.9)), [1, 1, 1])
    np.testing.assert_array_equal(commanded(np.full(3, 0.02)), [0, 0, 0])


def typing(robot: Connection, *lines: str | float) -> record.Callable[[], str | None]:
    """Lines as they are typed, numbers: seconds until the next one."""
    waiting = list(lines)
    until = [robot.clock.now()]

    def keys() -> str | None:
        if waiting and isinstance(waiting[0], float):
            until[0] = robot.clock.now() + waiting.pop(0)
        if not waiting or robot.clock.now() < until[0]:
            return None
        return str(waiting.pop(0))

    return keys


def test_keys_begin_end_repeat_drop_and_quit(robot: Connection, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recorder = Recorder(robot, tmp_path / "data", "wave", 5)
    lead(robot.twin, np.array([[60.0, 0.3, -1.5, 1.6, 1.0, 0.0, jaw(0.3)]]))
    again = ("", 2.0, "", "r")  # shown, and not liked
    dropped = ("", 1.0, "s")
    kept = ("", 2.0, "", "what", "")
    record.by_hand(recorder, 3, typing(robot, *again, *dropped, *kept, *kept, "q"))
    said = capsys.readouterr().out
    assert "'what' means nothing here" in said
    assert "2 episodes in" in said
    assert len(Dataset(tmp_path / "data")) == 2
    record.by_hand(Recorder(robot, tmp_path / "data", "wave", 5), 3, typing(robot, "", 0.1, "", "", 2.0, "", ""))
    assert "not kept: " in capsys.readouterr().out
    assert len(Dataset(tmp_path / "data")) == 3
    robot.twin.ask("lead", path=None)


def test_a_dataset_of_another_rate_is_refused(robot: Connection, shown: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds a dataset at 5 fps"):
        Recorder(robot, shown, show.TASK, 4)
    with pytest.raises(BadInput, match="holds demonstrations of 'put the cup on the saucer'; allowed: more of it"):
        Recorder(robot, shown, "wipe the table", 5)
    with pytest.raises(BadInput, match=r"--fps is 20; allowed: 1 to camera\.fps, 10"):
        Recorder(robot, tmp_path / "data", show.TASK, 20)


def test_episodes_are_of_finite_numbers(robot: Connection, tmp_path: Path) -> None:
    recorder = Recorder(robot, tmp_path / "data", "nothing", 5)
    bad = Episode(np.zeros((2, 120, 160, 3), np.uint8), np.full((2, 4), np.nan), np.zeros((2, 4)), recorder._about)
    with pytest.raises(BadInput, match="must be finite"):
        recorder.writer.append(bad)
