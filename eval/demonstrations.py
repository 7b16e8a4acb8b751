"""Demonstrations by the scripted expert, recorded in a simulator process."""

from typing import Protocol

import numpy as np
from jaxtyping import Float

from eval.executors import LiberoExecutor, Workspace
from eval.simulation import START
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk


class ExpertScene(Workspace, Protocol):
    """A scene in which the expert can show its task, and policies be tested on it."""

    @property
    def final(self) -> dict[str, list[float]]:
        """Where the things that the task is about are [m], for the record."""
        ...

    def set_up(self, job: dict, start: Float[np.ndarray, " 3"]) -> None:
        """Everything where a job wants it, at rest, the arm at `start`."""
        ...

    def plan(self, period: float) -> tuple[Float[np.ndarray, "step 3"], Float[np.ndarray, " step"]]:
        """The expert's waypoints [m] and gripper commands, `period` seconds apart, from the scene as it stands."""
        ...

    def self_test(self) -> dict:
        """Markers, pictures with and without them, and errors [pixels]; `BadInput` where the calibration is wrong."""
        ...


class ExpertPolicy:
    """The scripted expert behind the policy interface: the rest of its plan, made once at the episode's start."""

    def __init__(self, scene: ExpertScene, period: float) -> None:
        self.position, self.gripper = scene.plan(period)
        self.period = period
        self.step = 0

    def chunk(self, n_steps: int) -> ActionChunk:
        """The next `n_steps` waypoints; the last one is held."""
        index = np.minimum(np.arange(self.step, self.step + n_steps), len(self.position) - 1)
        return ActionChunk(self.position[index], self.gripper[index], self.period)


def describe(scene: ExpertScene, first: dict | None = None) -> dict:
    """The camera, and the self-test's pictures after the test has passed; `BadInput` where `first` has no plan either.

    `first` is the first of the jobs that are to come, where the expert is to do them.
    """
    if first is not None:
        scene.set_up({**first, "bowl_xy": first["attempts"][0][0]}, START)
        if len(scene.plan(1.0)[0]) == 1:
            raise BadInput(f"the hand, which opens 8 cm along y, has no room to grasp the object of {first['task']}")
    return {**scene.self_test(), "camera": scene.camera}


def collect(scene: ExpertScene, job: dict) -> dict:
    """The first of a job's attempts (bowl position or None, start jitter) at which the expert succeeds, or the last."""
    result: dict = {}
    for n, (bowl_xy, start_jitter) in enumerate(job["attempts"], 1):
        scene.set_up({**job, "bowl_xy": bowl_xy, "attempt": n}, START + start_jitter)
        at = None if bowl_xy is None else bowl_xy.tolist()
        result = {**demonstrate(scene, job["fps"]), "bowl_xy": at, "attempts": n}
        if result["placed"]:
            break
    return result


def demonstrate(scene: ExpertScene, fps: int) -> dict:
    """One demonstration by the expert from the scene as it stands; frames, states and actions, `fps` per second."""
    executor = LiberoExecutor(scene, "teleport", stop_when_placed=False)  # the retreat belongs to a demonstration
    expert = ExpertPolicy(scene, 1 / fps)
    frames, state, action = [], [], []
    for step in range(len(expert.position) + 1):
        expert.step = step
        chunk = expert.chunk(1)
        frames.append(scene.render())
        state.append([*scene.ee_position, scene.gripper])
        action.append([*chunk.position[0], chunk.gripper[0]])
        executor.execute(chunk, 1)
    return {
        "frames": np.stack(frames),
        "state": np.array(state),
        "action": np.array(action),
        "placed": scene.placed,
        "control_steps": scene.n_control_steps,
    }
