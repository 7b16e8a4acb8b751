"""What passes between policy and executor: observations and action chunks (numpy only, no torch, no simulator)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from videopolicy.camera import Camera


@dataclass(frozen=True)
class Observation:
    """What a policy may see at one moment."""

    image: UInt8[np.ndarray, "height width 3"]
    camera: Camera
    ee_position: Float[np.ndarray, " 3"]  # grip site, world frame [m]
    gripper: float  # measured opening, 0 closed ... 1 open
    time: float  # [s] since the episode began


@dataclass(frozen=True)
class ActionChunk:
    """The next waypoints of the end effector, `period` seconds apart."""

    position: Float[np.ndarray, "step 3"]  # world frame [m]
    gripper: Float[np.ndarray, " step"]  # commanded opening, 0 closed ... 1 open
    period: float  # [s]
    pixel: Float[np.ndarray, "step 2"] | None = None  # where a pixel-aligned head saw them
    confidence: Float[np.ndarray, " step"] | None = None  # probability mass around the pixel, 0 ... 1
    rotation: Float[np.ndarray, "step 3"] | None = None  # see `rotation.py` [rad]; None: the hand's orientation is held
    heatmaps: UInt8[np.ndarray, "step row col"] | None = None  # behind the pixels, 255 the likeliest; where asked for


@runtime_checkable
class Policy(Protocol):
    """Observation in, action chunk out."""

    def act(self, observation: Observation) -> ActionChunk: ...

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]: ...


@runtime_checkable
class Executor(Protocol):
    """Turns action chunks into motion; never sees a pixel or a network."""

    def observe(self) -> Observation: ...

    def execute(self, chunk: ActionChunk, n_steps: int) -> None: ...

    def done(self) -> bool: ...
