"""A small demonstration file in LIBERO's format, made as LIBERO makes them: states before actions, and pictures.

Run as a program, because a simulator and torch do not share a process: python tests/recordings.py FILE
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np

from eval.executors import LiberoExecutor
from eval.simulation import START, benchmark_task, read_task
from eval.task_scene import TaskScene
from videopolicy.types import ActionChunk

SIZE = 64  # [pixels]
EVERY = 10  # pictures are slow: one of as many steps has one, where LIBERO has one of each
N_SHORT = 41  # steps of the second recording
PERIOD = 0.25  # [s]
TURNED = np.array([0.1, -0.2, 0.5])  # [rad]: how the second recording holds the hand
MOVED = np.array([0.05, -0.04, 0.0])  # [m]: furniture is somewhere else in every recording


class RecordedScene(TaskScene):
    """A task that keeps what LIBERO's recorder keeps at every control step."""

    def start(self) -> None:
        self.states: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.images: list[np.ndarray] = []

    def control(self, target: np.ndarray, gripper: float, rotation: np.ndarray | None = None) -> None:
        if hasattr(self, "states"):
            if len(self.states) % EVERY == 0:
                self.images.append(self.render())
            self.states.append(self._sim.get_state().flatten())
            self.actions.append(self.command(target, gripper, rotation))
        super().control(target, gripper, rotation)

    @property
    def xml(self) -> str:
        return self._sim.model.get_xml()

    def move_cabinet(self) -> None:
        model = self._sim.model._model
        model.body_pos[model.body(self._env.fixtures_dict["wooden_cabinet_1"].root_body).id] += MOVED


def main(path: Path) -> None:
    task = benchmark_task("libero_spatial", 2)
    scene = RecordedScene(task, SIZE)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["bddl_file_name"] = f"libero/libero/bddl_files/{task}.bddl"
        words = read_task(task).partition("(:language ")[2].partition(")")[0]
        info = {"problem_name": "libero_tabletop_manipulation", "domain_name": "robosuite"}
        data.attrs["problem_info"] = json.dumps({**info, "language_instruction": words})
        for number in (0, 10):  # names sort otherwise than numbers
            scene.move_cabinet()
            scene.set_up({"init_state": number}, START)
            scene.start()
            position, gripper = scene.plan(PERIOD)
            executor = LiberoExecutor(scene, "teleport", N_SHORT if number else 600, stop_when_placed=False)
            turned = np.tile(TURNED, (len(position), 1)) if number else None
            executor.execute(ActionChunk(position, gripper, PERIOD, rotation=turned), len(position))
            demo = data.create_group(f"demo_{number}")
            demo["states"], demo["actions"] = np.stack(scene.states), np.stack(scene.actions)
            demo["obs/agentview_rgb"] = np.stack(scene.images)[:, ::-1]  # LIBERO's pictures are upside down
            demo.attrs["model_file"], demo.attrs["num_samples"] = scene.xml, len(scene.states)
            demo.attrs["init_state"] = scene.states[0]
            del scene.states
    scene.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
