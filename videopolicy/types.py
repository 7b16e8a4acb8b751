"""What passes between policy and executor: observations and action chunks (numpy only, no torch, no simulator)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from videopolicy.camera import Camera
from videopolicy.errors import BadInput, choices

NEEDED, OPTIONAL = ("image", "camera", "ee_position"), ("gripper", "time")  # of an observation


@dataclass(frozen=True)
class Observation:
    """What a policy may see at one moment."""

    image: UInt8[np.ndarray, "height width 3"]
    camera: Camera
    ee_position: Float[np.ndarray, " 3"]  # grip site, world frame [m]
    gripper: float  # measured opening, 0 closed ... 1 open
    time: float  # [s] since the episode began

    @staticmethod
    def of(entry: Mapping[str, Any]) -> "Observation":
        """An observation given by its fields' names, the camera also as `Camera.to_json` has it.

        `gripper` and `time` may be left out: no policy here reads them. `BadInput` names what is missing or unknown,
        and a picture of another size than the camera's.
        """
        if unknown := [name for name in entry if name not in NEEDED + OPTIONAL]:
            raise choices("a key of the observation", unknown[0], NEEDED + OPTIONAL)
        if missing := [name for name in NEEDED if name not in entry]:
            raise BadInput(f"the observation has no {missing[0]!r}; needed: {', '.join(map(repr, NEEDED))}")
        camera, image = entry["camera"], np.asarray(entry["image"])
        try:
            camera = camera if isinstance(camera, Camera) else Camera.from_json(camera)
            position = np.asarray(entry["ee_position"], float)
            gripper, time = float(entry.get("gripper", 1.0)), float(entry.get("time", 0.0))
        except (TypeError, ValueError) as error:
            raise BadInput(f"the observation has values of another kind: {error}") from error
        check(image, camera, position)
        return Observation(image, camera, position, gripper, time)


def check(image: np.ndarray, camera: Camera, ee_position: np.ndarray) -> None:
    """`BadInput` for a picture of another kind or size than the camera's, and for a position that is none."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadInput(f"image is {image.dtype} of shape {image.shape}; allowed: uint8 of shape (height, width, 3)")
    if image.shape[1::-1] != camera.size:
        raise BadInput(
            f"image is {image.shape[1]} x {image.shape[0]} pixels, its camera's are {camera.size[0]} x"
            f" {camera.size[1]}; allowed: pictures of the camera's size"
        )
    if ee_position.shape != (3,) or not np.isfinite(ee_position).all():
        raise BadInput(f"ee_position is {ee_position.tolist()}; allowed: x, y, z in the world frame [m]")


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

    @property
    def times(self) -> Float[np.ndarray, " step"]:
        """Of the waypoints, counted from the observation [s]."""
        return self.period * np.arange(1, len(self.position) + 1)


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
