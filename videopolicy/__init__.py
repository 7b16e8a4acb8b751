"""Pixel-aligned robot actions on video diffusion models: the library behind the stages, the evaluation and the arm.

`videopolicy.load_policy(path).act(observation)` is all that acting takes; see `policy.py`.
"""

import importlib
import logging
from typing import Any

LATER = {"load_policy": "videopolicy.policy"}  # imported when asked for: simulators and the arm's loop have no torch
# bitsandbytes, which brings the 8-bit optimizer, misses a package for 4-bit weights; nothing here has any.
FOUR_BIT = "Failed to load CPU gemm_4bit_forward from kernels-community"
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: FOUR_BIT not in str(record.msg))


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(importlib.import_module(LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
