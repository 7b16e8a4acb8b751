"""Pixel-aligned robot actions on video diffusion models: the library behind the stages, the evaluation and the arm.

`videopolicy.load_policy(path).act(observation)` is all that acting takes; see `policy.py`.
"""

import importlib
from typing import Any

LATER = {"load_policy": "videopolicy.policy"}  # imported when asked for: simulators and the arm's loop have no torch


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(importlib.import_module(LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
