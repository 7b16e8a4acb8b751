"""LIBERO's demonstration files: recorded simulator states and actions of one task, as its authors publish them.

The only user of h5py.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
from jaxtyping import Float

from videopolicy.errors import BadInput

N_ACTION = 7  # of operational-space control: position, rotation, and gripper from -1 open to +1 closed


@dataclass(frozen=True)
class Recording:
    """One demonstration, 20 a second: before action i the simulator was in state i."""

    name: str
    states: Float[np.ndarray, "step value"]
    actions: Float[np.ndarray, "step 7"]
    bodies: dict[str, tuple[list[float], list[float]]]  # where the model has its outermost bodies: position, quaternion


@dataclass(frozen=True)
class DemonstrationFile:
    """A file, its task, and the names of its demonstrations in the order of their numbers."""

    path: Path
    task: str  # suite/file
    language: str
    names: list[str]
    n_values: int  # of a state

    def read(self, name: str) -> Recording:
        """One demonstration; `BadInput` where its model cannot be read."""
        with h5py.File(self.path, "r") as file:
            group = file["data"][name]
            try:
                bodies = _bodies(_text(group.attrs.get("model_file", "<mujoco/>")))
            except (ElementTree.ParseError, ValueError) as error:
                raise BadInput(f"model_file of {name} of {self.path} is no MuJoCo model: {error}") from error
            return Recording(name, group["states"][()], group["actions"][()], bodies)


def open_demonstrations(path: Path) -> DemonstrationFile:
    """What a file holds; `BadInput` where it is not of LIBERO's format."""
    try:
        with h5py.File(path, "r") as file:
            return _described(path, file)
    except OSError as error:
        reason = "there is no such file" if not path.exists() else "it is no HDF5 file, or a damaged one"
        raise BadInput(f"cannot read {path}: {reason}") from error


def _described(path: Path, file: Any) -> DemonstrationFile:
    data = file.get("data")
    numbers = [] if data is None else sorted(int(n[5:]) for n in data if re.fullmatch(r"demo_\d+", n))
    names = [f"demo_{number}" for number in numbers]
    if not names or "bddl_file_name" not in data.attrs or "problem_info" not in data.attrs:
        raise BadInput(
            f"{path} is no LIBERO demonstration file: it needs a group 'data' with the attributes bddl_file_name and"
            " problem_info, and groups demo_0, demo_1, ... in it"
        )
    bddl = Path(_text(data.attrs["bddl_file_name"]))
    try:
        words = json.loads(_text(data.attrs["problem_info"]))["language_instruction"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"problem_info of {path} holds no language_instruction: {error!r}") from error
    widths = set()
    for name in names:
        shapes = {key: data[name][key].shape if key in data[name] else None for key in ("states", "actions")}
        states, actions = shapes["states"], shapes["actions"]
        if states is None or len(states) != 2 or states[0] < 2 or actions != (states[0], N_ACTION):
            raise BadInput(
                f"{name} of {path} has states of shape {states} and actions of shape {actions}; allowed: (steps,"
                f" values) and (steps, {N_ACTION}), of at least 2 steps"
            )
        widths.add(states[1])
    if len(widths) > 1:
        raise BadInput(f"{path} has states of {sorted(widths)} values; allowed: the same number in all demonstrations")
    task = f"{bddl.parent.name}/{bddl.stem}"
    return DemonstrationFile(path, task, words if isinstance(words, str) else " ".join(words), names, widths.pop())


def _bodies(model: str) -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for body in ElementTree.fromstring(model).iterfind("./worldbody/body"):
        position, quaternion = (body.get(k, default).split() for k, default in (("pos", "0 0 0"), ("quat", "1 0 0 0")))
        found[body.get("name", "")] = [float(x) for x in position], [float(x) for x in quaternion]
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
