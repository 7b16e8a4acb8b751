"""Any LIBERO task whose goal is one `(On A B)` or `(In A B)`: its goal, and which initial states it is played from.

Tasks are numbered in LIBERO's own order of their suite. Demonstrations begin in the first of a task's fixed initial
states, evaluations in those that no demonstration began in.
"""

import re
from dataclasses import dataclass

import numpy as np

from eval.positions import episode_seed
from eval.pool import Pool
from videopolicy.errors import BadInput

JITTER = 0.01  # [m], at most, of the arm's start


@dataclass(frozen=True)
class Goal:
    """What is to be put where, by its LIBERO names."""

    relation: str  # On or In
    object: str
    target: str  # an object, a piece of furniture, or a region of one


def read_goal(bddl: str, task: str) -> Goal:
    """The goal of a problem file; `BadInput` where it is not one pick and place."""
    text = " ".join(bddl.partition("(:goal")[2].split()).removesuffix(")").rstrip().removesuffix(")").strip()
    atoms = re.findall(r"\(([^()]+)\)", text)
    words = atoms[0].split() if len(atoms) == 1 else []
    if len(words) != 3 or words[0] not in ("On", "In"):
        raise BadInput(f"the goal of {task} is {text}; allowed: a single (On A B) or (In A B)")
    return Goal(*words)
