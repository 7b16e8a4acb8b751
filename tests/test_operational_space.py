"""The arm moves as robosuite's own control moves it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BOTH_WAYS = """
import json, sys
import numpy as np
from eval.scene import Scene
import mujoco  # after the variables that the simulation sets

scene = Scene(64)
environment, sim = scene._env, scene._sim
start = sim.get_state().flatten()


def theirs(action):
    for i in range(scene._substeps):
        mujoco.mj_step1(sim.model._model, sim.data._data)
        environment._pre_action(action, policy_step=i == 0)
        mujoco.mj_step2(sim.model._model, sim.data._data)
    sim.forward()


def ours(action):
    scene._arm.step(action, scene._substeps)


rng = np.random.default_rng(0)
# Down onto the table, with turns, closing and opening, and a command beyond what is allowed.
actions = np.c_[rng.uniform(-1, 0.8, (40, 3)), rng.uniform(-1, 1, (40, 3)), np.repeat([1.0, -1.0], 20)]
actions[5, :3] = 3.0
paths = []
for move in (theirs, ours):
    scene.restore(start)
    scene.forward()
    path = []
    for action in actions:
        move(action)
        path.append(sim.get_state().flatten())
    paths.append(np.array(path))
moved = np.abs(paths[0] - start).max(0)[1:]
with open(sys.argv[1], "w") as file:
    json.dump({"same": np.array_equal(*paths), "n_moved": int((moved > 0.01).sum())}, file)
assert "torch" not in sys.modules
"""


def test_the_arm_moves_as_by_robosuites_own_control(tmp_path: Path) -> None:
    """Positions and velocities of everything, bit for bit, over forty control steps into the table."""
    command = [sys.executable, "-W", "ignore", "-c", BOTH_WAYS, str(tmp_path / "out.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["n_moved"] >= 9  # seven joints and two fingers
    assert out["same"]
