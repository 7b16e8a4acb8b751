"""The goal of a LIBERO task, where it is one pick and place."""

import re
from dataclasses import dataclass

from videopolicy.errors import BadInput


@dataclass(frozen=True)
class Goal:
    """What is to be put where, by LIBERO's names."""

    relation: str  # On or In
    object: str
    target: str  # another object, a piece of furniture, or a region of one


def read_goal(bddl: str, task: str) -> Goal:
    """The goal of a problem file; `BadInput` where it is not a single (On A B) or (In A B)."""
    goal = bddl.partition("(:goal")[2]
    atoms = re.findall(r"\(([^()]+)\)", goal)
    words = atoms[0].split() if len(atoms) == 1 else []
    if len(words) != 3 or words[0] not in ("On", "In"):
        found = " ".join(f"({' '.join(atom.split())})" for atom in atoms)
        raise BadInput(f"the goal of {task} is {found or 'empty'}; allowed: a single (On A B) or (In A B)")
    return Goal(*words)


def language(task: str) -> str:
    """What a task asks for: its name without suite and scene."""
    name = re.sub(r"^[A-Z0-9_]+_(?=[a-z])", "", task.rpartition("/")[2])
    return name.replace("_", " ")
