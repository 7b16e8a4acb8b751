"""A simulator process: one scene at a time, which collects demonstrations and rolls policies out. Never imports torch.

Speaks with `eval.pool` over the socket whose descriptor is its first argument. It receives jobs as dictionaries and
sends `("result", value)`, `("bad_input", line)`, `("error", traceback)`, or requests that are answered by an action
chunk: `("act", observation)` and `("oracle", (observation, true chunk))`.
"""

import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from eval.clips import record_block
from eval.demonstrations import ExpertPolicy, ExpertScene, collect, describe
from eval.executors import LiberoExecutor
from eval.hiding import check_hidden
from eval.orbit import orbit
from eval.playground import Playground
from eval.replay import Replay
from eval.scene import Scene
from eval.simulation import START, Simulation, task_names
from eval.stills import take
from eval.task_scene import TaskScene, describe_task
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


def run_episode(scene: ExpertScene, connection: Connection, job: dict) -> dict:
    """One closed-loop episode of the parent's policy, or of the expert's waypoints through the parent's head."""
    scene.set_up(job, START + job["start_jitter"])
    before = {"camera": scene.camera.to_json(), "start": scene.ee_position.round(5).tolist()}
    executor = LiberoExecutor(scene, job["executor"], job["step_cap"])
    policy = RemotePolicy(connection)
    if job["oracle"]:
        policy = OraclePolicy(connection, scene, job["period"], job["n_steps"], job["n_execute"])
    result = rollout(policy, executor, job["n_execute"], job["max_chunks"], job["ensemble"])
    return {
        **before,
        "outcome": executor.outcome,
        "chunks": len(result.chunks),
        "control_steps": scene.n_control_steps,
        "clamped": executor.n_clamped,
        "confidence": [confidence(c, job["n_execute"]) for c in result.chunks],
        "seconds": round(result.seconds, 2),
        "final": scene.final,
        "frames": np.stack([o.image for o in result.observations]),
        "targets": [c.position.round(4).tolist() for c in result.chunks],
        "grippers": [c.gripper.round(2).tolist() for c in result.chunks],
        "rotations": [None if c.rotation is None else c.rotation.round(3).tolist() for c in result.chunks],
    }


def confidence(chunk: ActionChunk, n_execute: int) -> float | None:
    """The mean over the waypoints that are executed; None where a chunk has none."""
    return None if chunk.confidence is None else round(float(chunk.confidence[:n_execute].mean()), 3)


class OraclePolicy(RemotePolicy):
    """Ground-truth waypoints that the parent encodes as head targets, decodes and lifts: the head's ceiling."""

    def __init__(self, connection: Connection, scene: ExpertScene, period: float, n_steps: int, n_execute: int) -> None:
        super().__init__(connection)
        self.expert = ExpertPolicy(scene, period)
        self.n_steps, self.n_execute = n_steps, n_execute

    def act(self, observation: Observation) -> ActionChunk:
        truth = self.expert.chunk(self.n_steps)
        self.expert.step += self.n_execute
        self.connection.send(("oracle", (observation, truth)))
        return self.connection.recv()


def run(
    job: dict, simulation: Simulation | None, connection: Connection, scene_class: type[Scene]
) -> tuple[Any, Simulation | None]:
    """A job's result, and the simulation that is now open: the one before, where it fits."""
    if job["kind"] == "tasks":
        return {suite: task_names(suite) for suite in job["suites"]}, simulation
    if job["kind"] == "task":
        return describe_task(job["suite"], job["number"]), simulation
    size = job["image_size"]
    if job["kind"] == "clips":
        task = job["task"]
        fits = isinstance(simulation, Playground) and (simulation.task, simulation.image_size) == (task, size)
        playground = simulation if fits else replaced(simulation, lambda: Playground(task, size))
        assert isinstance(playground, Playground)
        return record_block(playground, job), playground
    if job["kind"] == "replay":
        task = job["task"]
        fits = isinstance(simulation, Replay) and (simulation.task, simulation.image_size) == (task, size)
        replay = simulation if fits else replaced(simulation, lambda: Replay(task, size))
        assert isinstance(replay, Replay)
        drawn = replay.draw(job["states"], job["bodies"]) if "states" in job else replay.describe(job["n_values"])
        return drawn, replay
    scene = open_scene(job, simulation, scene_class)
    view = job.get("view")
    scene.look(*(scene.own_view if view is None else orbit(*view)))
    scene.show_robot(not job.get("hide_robot"))
    if job["kind"] == "describe":
        described = describe(scene, job.get("first"))
        if job.get("hide_robot"):
            check_hidden(scene)
        return described, scene
    if job["kind"] == "still":
        assert isinstance(scene, Scene)
        return take(scene, job["bowl_xy"], job["margin"], job["period"]), scene
    if job["kind"] == "collect":
        return collect(scene, job), scene
    return run_episode(scene, connection, job), scene


def open_scene(job: dict, simulation: Simulation | None, scene_class: type[Scene]) -> Scene | TaskScene:
    """The scene of a job: a task's, or that of bowl and plate in one of its variants."""
    size, task, variant, arm = job["image_size"], job.get("task"), job.get("scene", "clean"), job.get("arm", "Panda")
    scene = simulation
    if task is not None:
        if not (isinstance(scene, TaskScene) and (scene.task, scene.image_size) == (task, size)):
            scene = replaced(scene, lambda: TaskScene(task, size))
    elif not (isinstance(scene, Scene) and (scene.image_size, scene.variant, scene.arm) == (size, variant, arm)):
        scene = replaced(scene, lambda: scene_class(size, variant, arm=arm))
    assert isinstance(scene, Scene | TaskScene)
    return scene


def replaced(old: Simulation | None, make: Callable[[], Simulation]) -> Simulation:
    """A new simulation, the old one closed first: two GL contexts in one process would share state."""
    if old is not None:
        old.close()
    return make()


def main(scene_class: type[Scene] = Scene) -> None:
    connection = Connection(int(sys.argv[1]))
    simulation = None
    while True:
        try:
            job = connection.recv()
        except (EOFError, KeyboardInterrupt):
            break
        try:
            value, simulation = run(job, simulation, connection, scene_class)
            connection.send(("result", value))
        except KeyboardInterrupt:
            break
        except BadInput as error:
            connection.send(("bad_input", str(error)))
        except Exception:  # the parent raises it again: a crash is reported, never scored
            connection.send(("error", traceback.format_exc()))
    if simulation is not None:
        simulation.close()


if __name__ == "__main__":
    main()
