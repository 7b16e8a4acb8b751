"""Temporal ensembling: its weights, what it leaves alone, and that no episode hears of another."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from builders import agentview

from videopolicy.ensemble import ensembled
from videopolicy.rollout import rollout
from videopolicy.types import ActionChunk, Observation

IMAGE = np.zeros((4, 4, 3), np.uint8)


def chunk(number: float, n_steps: int = 12, rotation: float | None = None) -> ActionChunk:
    """A chunk that says `number` everywhere, seen at some pixel."""
    turned = None if rotation is None else np.full((n_steps, 3), rotation)
    pixel, sure = np.zeros((n_steps, 2)), np.ones(n_steps)
    return ActionChunk(np.full((n_steps, 3), number), np.full(n_steps, number), 0.25, pixel, sure, turned)


@pytest.mark.parametrize("m", [0.0, 0.01, 1.0, 1e4])
def test_weights_are_the_papers(m: float) -> None:
    """Chunks of 12 every 4: three speak of the first four waypoints, two of the next, the last one of the rest."""
    out = ensembled([chunk(1e9), chunk(1.0), chunk(10.0), chunk(100.0)], 4, m)  # the first ended before
    w = np.exp(-m * np.arange(3))  # 0: the oldest
    three, two = (np.array([1.0, 10.0, 100.0]) @ w) / w.sum(), (np.array([10.0, 100.0]) @ w[:2]) / w[:2].sum()
    expected = np.repeat([three, two, 100.0], 4)
    np.testing.assert_allclose(out.position, expected[:, None].repeat(3, 1), rtol=1e-12)
    np.testing.assert_allclose(out.gripper, expected, rtol=1e-12)
    assert (out.period, out.pixel, out.confidence, out.rotation) == (0.25, None, None, None)


def test_waypoints_are_aligned() -> None:
    """Chunks that agree on a path are that path, whatever part of it each one tells."""
    path = np.random.default_rng(0).normal(size=(40, 4))
    told = [ActionChunk(path[i : i + 7, :3], path[i : i + 7, 3], 0.25) for i in range(0, 30, 3)]
    out = ensembled(told, 3, 0.3)
    np.testing.assert_allclose(out.position, told[-1].position, atol=1e-12)
    np.testing.assert_allclose(out.gripper, told[-1].gripper, atol=1e-12)


def test_one_chunk_is_itself() -> None:
    one = chunk(3.0)
    assert ensembled([one], 4, 0.01) is one
    assert ensembled([chunk(1.0), chunk(2.0), one], 12, 0.01) is one  # nothing overlaps


def test_angles_are_averaged_on_the_circle() -> None:
    out = ensembled([chunk(0.0, rotation=np.pi - 0.1), chunk(0.0, rotation=-np.pi + 0.1)], 4, 0.0)
    np.testing.assert_allclose(np.abs(out.rotation[:8]), np.pi, atol=1e-12)
    np.testing.assert_allclose(out.rotation[8:], -np.pi + 0.1, atol=1e-12)


@dataclass
class Arm:
    """An executor that is where it was last sent, and takes longer over every other waypoint than its period."""

    position: np.ndarray
    ticks: int = 0
    sent: list[np.ndarray] = field(default_factory=list)

    def observe(self) -> Observation:
        return Observation(IMAGE, agentview(4), self.position, 1.0, self.ticks / 20)

    def execute(self, chunk: ActionChunk, n_steps: int) -> None:
        for i, position in enumerate(chunk.position[:n_steps]):
            self.position, self.ticks = position, self.ticks + (5 if i % 2 else 12)
        self.sent.append(chunk.position)

    def done(self) -> bool:
        return False


class Drift:
    """A policy whose chunks depend on where the arm is; asked by several threads, it answers all of them at once."""

    def __init__(self, n_arms: int = 1) -> None:
        self.together = threading.Barrier(n_arms)

    def act(self, observation: Observation) -> ActionChunk:
        self.together.wait(10)
        ahead = np.sin(observation.ee_position + np.arange(1, 9)[:, None])
        return ActionChunk(ahead, np.zeros(8), 0.25)

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def alone(start: float, m: float | None) -> list[np.ndarray]:
    arm = Arm(np.full(3, start))
    result = rollout(Drift(), arm, 2, 6, m)
    assert [c.position.tolist() for c in result.chunks] == [p.tolist() for p in arm.sent]
    return arm.sent


def test_the_loop_averages_within_an_episode_only() -> None:
    """A second episode begins anew; simulators that are answered together are kept apart."""
    plain, averaged = alone(0.3, None), alone(0.3, 0.01)
    np.testing.assert_array_equal(plain[0], averaged[0])
    assert not np.allclose(plain[1], averaged[1])
    np.testing.assert_array_equal(averaged, alone(0.3, 0.01))
    arms, policy = [Arm(np.full(3, start)) for start in (0.3, 2.0)], Drift(2)
    threads = [threading.Thread(target=rollout, args=(policy, arm, 2, 6, 0.01)) for arm in arms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for arm, start in zip(arms, (0.3, 2.0), strict=True):
        np.testing.assert_array_equal(arm.sent, alone(start, 0.01))
