"""Waypoints in time, whatever comes late; and a filter through which nothing dangerous passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.kinematics import LIMITS, Kinematics
from robot.safety import Held, Safety, SafetyConfig
from robot.trajectory import Limiter, Trajectory
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk

PERIOD, DT = 0.2, 0.02
START = np.array([0.0, -1.7, 1.6, 1.2, 0.0])


def chunk(offset: float = 0.0, n: int = 12) -> ActionChunk:
    """A straight line at 10 cm/s along x from `offset`; the gripper closes half way."""
    t = PERIOD * np.arange(1, n + 1)
    return ActionChunk(np.stack([0.1 * t + offset, 0 * t, 0 * t + 0.1], 1), (t < 1.3).astype(float), PERIOD)


def test_waypoints_belong_to_the_picture() -> None:
    """Not to the moment at which they arrive: what has passed meanwhile is dropped."""
    path = Trajectory(latency=0.0)
    assert path.at(0.0) is None
    assert path.add(chunk(), captured=10.0, now=10.3) == 11
    for now in (10.4, 10.5, 11.7, 12.4):
        target = path.at(now)
        assert target is not None
        assert target.position[0] == pytest.approx(0.1 * (now - 10.0))
        assert target.left == pytest.approx(12.4 - now)
    assert path.at(10.3).position[0] == pytest.approx(0.04)  # the first that is still to come
    assert path.at(13.0).position[0] == pytest.approx(0.24)  # the last, which stays
    assert path.at(13.0).left == pytest.approx(-0.6)


def test_the_gripper_switches() -> None:
    path = Trajectory(latency=0.0)
    path.add(chunk(), 0.0, 0.0)
    assert {path.at(t).opening for t in np.arange(0.0, 2.4, 0.01)} == {0.0, 1.0}
    assert [path.at(t).opening for t in (1.19, 1.21)] == [1.0, 0.0]


def test_a_chunk_that_comes_too_late_is_counted_and_dropped() -> None:
    path = Trajectory()
    path.add(chunk(), 0.0, 0.1)
    before = path.at(1.0)
    assert path.add(chunk(5.0), captured=-3.0, now=0.5) == 0
    assert path.n_late == 1
    np.testing.assert_array_equal(path.at(1.0).position, before.position)


def test_overlapping_chunks_are_blended_without_a_jump() -> None:
    """At the moment of change the arm is asked for what it was asked for just before; later for the new chunk alone."""
    path = Trajectory(n_blend=3, latency=0.0)
    path.add(chunk(), 0.0, 0.0)
    before = path.at(0.75).position
    path.add(chunk(0.03), captured=0.5, now=0.75)  # the same motion as seen 0.5 s later, 8 cm further on
    np.testing.assert_allclose(path.at(0.75).position, before, atol=1e-12)
    new = lambda t: 0.1 * (t - 0.5) + 0.03  # noqa: E731
    shares = [(path.at(t).position[0] - 0.1 * t) / (new(t) - 0.1 * t) for t in (0.9, 1.1, 1.3, 1.5)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75, 1.0], atol=1e-9)
    steps = [np.linalg.norm(path.at(t + DT).position - path.at(t).position) for t in np.arange(0.6, 2.0, DT)]
    assert max(steps) < 0.005


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.1, 3), st.floats(1, 20))
def test_limits_hold_whatever_is_asked(targets: list[float], speed: float, acceleration: float) -> None:
    limiter = Limiter(np.zeros(2), speed, acceleration)
    velocity, position = np.zeros(2), np.zeros(2)
    for x in targets:
        for _ in range(5):
            found, _ = limiter.step(np.array([x, -x / 2]), DT)
            now = (found - position) / DT
            assert np.linalg.norm(now) <= speed * (1 + 1e-6)
            assert np.linalg.norm(now - velocity) <= acceleration * DT * (1 + 1e-6)
            velocity, position = now, found


def test_it_stops_at_its_target() -> None:
    limiter, seen = Limiter(np.zeros(1), 1.0, 4.0), []
    for _ in range(200):
        position, _ = limiter.step(np.array([0.7]), DT)
        seen.append(position[0])
    assert max(seen) < 0.7 + 1e-3
    assert seen[-1] == pytest.approx(0.7, abs=1e-4)
    assert np.argmax(np.array(seen) > 0.69) * DT < 1.3  # 0.7 s at full speed, and a quarter of a second to get there


# -- safety ----------------------------------------------------------------------------------------------------------


def safety(**keys: object) -> Safety:
    return Safety(SafetyConfig(**keys), Kinematics(), LIMITS, START)


def settle(filter_: Safety, position: tuple, n: int = 400) -> np.ndarray:
    for _ in range(n):
        q = filter_.wish(np.array(position), 0.0, DT)
    return filter_.kinematics.forward(q).position


def test_what_is_allowed_is_done() -> None:
    filter_ = safety()
    np.testing.assert_allclose(settle(filter_, (0.22, 0.05, 0.05)), [0.22, 0.05, 0.05], atol=1e-4)
    assert filter_.flags == Held.NOTHING


def test_nothing_leaves_the_box() -> None:
    filter_ = safety()
    np.testing.assert_allclose(settle(filter_, (0.22, 0.05, -0.3)), [0.22, 0.05, 0.005], atol=1e-4)
    assert filter_.flags & Held.BOX


@pytest.mark.parametrize("wish", [(np.nan, 0, 0.1), (np.inf, 0, 0.1), (0.2, 0.1), (0.35, 0.24, 0.29)])
def test_what_makes_no_sense_holds_the_arm(wish: tuple) -> None:
    filter_ = safety()
    before = settle(filter_, (0.22, 0.05, 0.05))
    q = filter_.wish(np.array(wish), 0.0, DT)
    np.testing.assert_allclose(filter_.kinematics.forward(q).position, before, atol=1e-3)
    assert filter_.flags & (Held.NOT_FINITE | Held.UNREACHABLE)


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True), st.floats(-1, 1), st.floats(-1, 1))
        | st.tuples(*[st.floats(-0.5, 0.5)] * 3),
        max_size=30,
    )
)
def test_no_wish_moves_a_joint_too_fast_or_too_far(wishes: list[tuple]) -> None:
    filter_ = safety(speed=1.5, acceleration=6.0)
    before, velocity = START, np.zeros(5)
    for wish in wishes:
        q = filter_.wish(np.array(wish), 0.0, DT)
        assert np.isfinite(q).all()
        assert ((q >= LIMITS[:, 0]) & (q <= LIMITS[:, 1])).all()
        now = (q - before) / DT
        assert np.linalg.norm(now) <= 1.5 + 1e-6
        assert np.linalg.norm(now - velocity) <= 6.0 * DT + 1e-6
        before, velocity = q, now


def test_angles_stay_within_a_margin() -> None:
    filter_ = safety()
    for _ in range(600):
        q = filter_.angles(np.array([3.0, -1.7, 1.6, 1.2, 0.0]), DT)
    assert q[0] == pytest.approx(np.radians(126 - 2.5), abs=1e-4)
    assert filter_.flags & Held.LIMITS


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"low": (0.4, -0.2, 0.0)}, r"safety.low is \(0.4, -0.2, 0.0\)"),
        ({"speed": 0.0}, "safety.speed is 0.0; allowed: above 0"),
        ({"pitch_deg": -100.0}, r"safety.pitch_deg is -100.0; allowed: within safety.pitches_deg"),
    ],
)
def test_a_configuration_without_sense_is_refused(keys: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        SafetyConfig(**keys)
