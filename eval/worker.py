"""A simulator process: one scene, which collects demonstrations and rolls policies out. Never imports torch.

Speaks with `eval.pool` over the socket whose descriptor is its first argument. It receives jobs as dictionaries and
sends `("result", value)`, `("bad_input", line)`, `("error", traceback)`, or requests that are answered by an action
chunk: `("act", observation)` and `("oracle", (camera, true chunk))`.
"""

import sys
import traceback
from multiprocessing.connection import Connection

import numpy as np

from eval.executors import LiberoExecutor
from eval.expert import plan
from eval.scene import MARKERS, START, Scene
from videopolicy.errors import BadInput
from videopolicy.rollout import rollout
from videopolicy.types import ActionChunk, Observation


class RemotePolicy:
    """The policy as seen from a worker: the parent process answers, for many workers in one forward."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def act(self, observation: Observation) -> ActionChunk:
        self.connection.send(("act", observation))
        return self.connection.recv()

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


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


def collect(scene: Scene, attempts: list[tuple[np.ndarray, np.ndarray]], fps: int) -> dict:
    """The first of several attempts (bowl position, start jitter) at which the expert places the bowl, or the last."""
    result: dict = {}
    for n, (bowl_xy, start_jitter) in enumerate(attempts, 1):
        result = {**demonstrate(scene, bowl_xy, start_jitter, fps), "bowl_xy": bowl_xy.tolist(), "attempts": n}
        if result["placed"]:
            break
    return result


def demonstrate(scene: Scene, bowl_xy: np.ndarray, start_jitter: np.ndarray, fps: int) -> dict:
    """One demonstration by the expert; frames, states and actions, `fps` per second."""
    scene.reset(bowl_xy, START + start_jitter)
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


def run_episode(scene: Scene, connection: Connection, job: dict) -> dict:
    """One closed-loop episode of the parent's policy, or of the expert's waypoints through the parent's head."""
    scene.reset(job["bowl_xy"], START + job["start_jitter"])
    executor = LiberoExecutor(scene, job["executor"], job["step_cap"])
    policy = RemotePolicy(connection)
    if job["oracle"]:
        policy = OraclePolicy(connection, scene, job["period"], job["n_steps"], job["n_execute"])
    result = rollout(policy, executor, job["n_execute"], job["max_chunks"])
    return {
        "outcome": executor.outcome,
        "chunks": len(result.chunks),
        "control_steps": scene.n_control_steps,
        "clamped": executor.n_clamped,
        "seconds": round(result.seconds, 2),
        "final": {"bowl": scene.bowl.round(4).tolist(), "plate": scene.plate.round(4).tolist()},
        "frames": np.stack([o.image for o in result.observations]),
        "targets": [c.position.round(4).tolist() for c in result.chunks],
        "grippers": [c.gripper.round(2).tolist() for c in result.chunks],
    }


class OraclePolicy(RemotePolicy):
    """Ground-truth waypoints that the parent encodes as head targets, decodes and lifts: the head's ceiling."""

    def __init__(self, connection: Connection, scene: Scene, period: float, n_steps: int, n_execute: int) -> None:
        super().__init__(connection)
        self.expert = ExpertPolicy(scene, period)
        self.n_steps, self.n_execute = n_steps, n_execute

    def act(self, observation: Observation) -> ActionChunk:
        truth = self.expert.chunk(self.n_steps)
        self.expert.step += self.n_execute
        self.connection.send(("oracle", (observation.camera, truth)))
        return self.connection.recv()


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    scene = None
    while True:
        try:
            job = connection.recv()
        except (EOFError, KeyboardInterrupt):
            break
        try:
            if scene is None or scene.image_size != job["image_size"]:
                scene = Scene(job["image_size"])
            if job["kind"] == "describe":
                value = describe(scene)
            elif job["kind"] == "collect":
                value = collect(scene, job["attempts"], job["fps"])
            else:
                value = run_episode(scene, connection, job)
            connection.send(("result", value))
        except KeyboardInterrupt:
            break
        except BadInput as error:
            connection.send(("bad_input", str(error)))
        except Exception:  # the parent raises it again: a crash is reported, never scored
            connection.send(("error", traceback.format_exc()))
    if scene is not None:
        scene.close()


if __name__ == "__main__":
    main()
