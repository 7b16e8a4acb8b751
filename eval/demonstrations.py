"""Demonstrations by the scripted expert, recorded in a simulator process."""

import numpy as np

from eval.executors import LiberoExecutor
from eval.expert import plan
from eval.scene import Scene
from eval.simulation import MARKERS, START
from videopolicy.types import ActionChunk


class ExpertPolicy:
    """The scripted expert behind the policy interface: the rest of its plan, made once at the episode's start."""

    def __init__(self, scene: Scene, period: float) -> None:
        self.position, self.gripper = plan(scene.ee_position, scene.bowl, scene.plate, period)
        self.period = period
        self.step = 0

    def chunk(self, n_steps: int) -> ActionChunk:
        """The next `n_steps` waypoints; the last one is held."""
        index = np.minimum(np.arange(self.step, self.step + n_steps), len(self.position) - 1)
        return ActionChunk(self.position[index], self.gripper[index], self.period)


def describe(scene: Scene) -> dict:
    """The camera, and the self-test's pictures after the test has passed."""
    errors = scene.self_test()
    images = scene.render_markers(), scene.render()
    return {"camera": scene.camera, "markers": MARKERS, "images": images, "errors": errors}


def collect(scene: Scene, attempts: list[tuple[np.ndarray, np.ndarray]], fps: int, plate_xy: np.ndarray | None) -> dict:
    """The first of several attempts (bowl position, start jitter) at which the expert places the bowl, or the last."""
    result: dict = {}
    for n, (bowl_xy, start_jitter) in enumerate(attempts, 1):
        scene.reset(bowl_xy, START + start_jitter, plate_xy)
        result = {**demonstrate(scene, fps), "bowl_xy": bowl_xy.tolist(), "attempts": n}
        if result["placed"]:
            break
    return result


def demonstrate(scene: Scene, fps: int) -> dict:
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
