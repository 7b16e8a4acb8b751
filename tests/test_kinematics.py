"""Closed-form kinematics against a chain of frames, link by link, with the published model's numbers; and both ways."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from robot.kinematics import JOINTS, LIMITS, PAN, Kinematics, Pose, Unreachable

ANGLES = st.tuples(*(st.floats(float(low), float(high)) for low, high in LIMITS)).map(np.array)

HEIGHTS = (0.02, 0.16, 0.2)  # [m]


def turn(axis: int, angle: float) -> np.ndarray:
    a, b = [i for i in range(3) if i != axis]
    T = np.eye(4)
    s = np.sin(angle) * (-1 if axis == 1 else 1)
    T[a, a] = T[b, b] = np.cos(angle)
    T[a, b], T[b, a] = -s, s
    return T


def move(*by: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = by
    return T


def frames(q: np.ndarray, tool: float = 0.1) -> list[np.ndarray]:
    """By the published MJCF, each link's place in the one before, then its joint: T_base_link, the tool's at the end.

    Its base looks along -y; ours along x.
    """
    base = turn(2, np.pi / 2) @ move(0, -0.0452, 0.0165) @ turn(0, np.pi / 2) @ turn(1, q[0])
    upper = base @ move(0, 0.1025, 0.0306) @ turn(0, np.pi / 2) @ turn(0, q[1])
    lower = upper @ move(0, 0.11257, 0.028) @ turn(0, -np.pi / 2) @ turn(0, q[2])
    wrist = lower @ move(0, 0.0052, 0.1349) @ turn(0, -np.pi / 2) @ turn(0, q[3])
    hand = wrist @ move(0, -0.0601, 0) @ turn(1, q[4])
    return [base, upper, lower, wrist, hand, hand @ move(0, -tool, 0)]


def chain(q: np.ndarray, tool: float = 0.1) -> np.ndarray:
    return frames(q, tool)[-1]


@given(ANGLES)
def test_forward_is_the_chain(q: np.ndarray) -> None:
    arm = Kinematics()
    expected = chain(q)
    np.testing.assert_allclose(arm.forward(q).position, expected[:3, 3], atol=1e-9)
    T = arm.hand_to_base(q)
    np.testing.assert_allclose(T[:3, 2], -expected[:3, 1], atol=1e-9)  # along the hand
    np.testing.assert_allclose(T[:3, 0], expected[:3, 0], atol=1e-9)  # the jaw's side
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(T[:3, :3]) > 0


@given(ANGLES)
def test_joints_are_where_the_chains_are(q: np.ndarray) -> None:
    """From the shoulder on; below it the arm begins on the pan axis at the table. The last one is the tool."""
    arm = Kinematics(0.08)
    found, expected = arm.joints(q), np.stack([T[:3, 3] for T in frames(q, 0.08)])
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-9)
    np.testing.assert_allclose(found[0], [*expected[0, :2], 0.0], atol=1e-9)
    np.testing.assert_allclose(found[-1], arm.forward(q).position, atol=1e-12)


def test_the_check_poses() -> None:
    """Stretched level and ahead; and numbers that do not come from this code."""
    arm = Kinematics(0.1)
    np.testing.assert_allclose(
        arm.forward(np.zeros(5)).position, [0.0452 + 0.0306 + 0.11257 + 0.1349 + 0.1601, 0, 0.0962], atol=1e-9
    )
    assert arm.forward(np.array([0, 0, 0, np.pi / 2, 0])).pitch == pytest.approx(-np.pi / 2)
    assert arm.forward(np.array([np.pi / 2, 0, 0, 0, 0])).position[1] > 0.3  # the pan turns left


@given(ANGLES)
@example(np.array([0.0, 0.0, np.pi, -2.0, 0.0]))
@example(np.array([0.0, -np.pi, 0.0, 1.0, np.pi]))
@example(np.array([0.0, 0.0, 0.0, -2.000147322785501, 0.0]))
def test_inverse_undoes_forward(q: np.ndarray) -> None:
    """Of every pose whose tool is in front of the pan axis: the same place, pitch and roll."""
    arm = Kinematics()
    pose = arm.forward(q)
    ahead = (pose.position[:2] - PAN) @ [np.cos(q[0]), np.sin(q[0])]
    if ahead < 0.005:
        return
    again = arm.forward(arm.inverse(pose))
    np.testing.assert_allclose(again.position, pose.position, atol=1e-9)
    for angle, other in ((again.pitch, pose.pitch), (again.roll, pose.roll)):
        assert np.exp(1j * angle) == pytest.approx(np.exp(1j * other), abs=1e-9)


@pytest.mark.parametrize(
    ("position", "pitch", "words"),
    [
        ((0.6, 0, 0.1), 0.0, "its wrist would be .* m from the shoulder, whose arm is 0.019 to 0.251 m long"),
        ((0.25, 0, 0.25), -np.pi / 2, "m at pitch -90 deg: its wrist would be"),
        ((0.12, 0, 0.02), 0.0, "beyond its limits"),
    ],
)
def test_what_cannot_be_reached_says_why(position: tuple, pitch: float, words: str) -> None:
    with pytest.raises(Unreachable, match=words):
        Kinematics().inverse(Pose(np.array(position), pitch))


def test_the_hand_tilts_where_it_must() -> None:
    """Straight down near the table, tilted further up: the nearest pitch to the wanted one."""
    arm, pitches = Kinematics(), np.radians(np.arange(-90.0, -29.0, 5.0))
    wanted = -np.pi / 2
    found = [arm.relaxed(Pose(np.array([0.22, 0.05, z]), wanted), pitches)[1] for z in HEIGHTS]
    assert found[0] == pytest.approx(wanted)
    assert found[0] < found[1] < found[2]
    for z, pitch in zip(HEIGHTS, found, strict=True):
        q, _ = arm.relaxed(Pose(np.array([0.22, 0.05, z]), wanted), pitches)
        np.testing.assert_allclose(arm.forward(q).position, [0.22, 0.05, z], atol=1e-9)
        assert arm.forward(q).pitch == pytest.approx(pitch)
        assert ((q >= LIMITS[:, 0]) & (q <= LIMITS[:, 1])).all()
    with pytest.raises(Unreachable):
        arm.relaxed(Pose(np.array([0.5, 0, 0.3]), wanted), pitches)


def test_limits_are_the_arms_own() -> None:
    narrow = LIMITS.copy()
    narrow[0] = [-0.1, 0.1]
    with pytest.raises(Unreachable, match="shoulder_pan at 30 deg is beyond its limits"):
        Kinematics(limits=narrow).inverse(Kinematics().forward(np.array([np.radians(30), -1.5, 1.2, 1.2, 0])))
    assert len(JOINTS) == len(LIMITS)
