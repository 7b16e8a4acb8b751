"""Observations and action chunks as JSON and bytes, between the arm's process and the policy's."""

import json
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from videopolicy.camera import Camera
from videopolicy.types import ActionChunk, Observation


def observation_to_json(observation: Observation) -> dict[str, Any]:
    """All but the picture's bytes; `bytes` says how many those are."""
    height, width = observation.image.shape[:2]
    return {
        "bytes": observation.image.nbytes,
        "size": [width, height],
        "camera": observation.camera.to_json(),
        "ee_position": observation.ee_position.tolist(),
        "gripper": observation.gripper,
        "time": observation.time,
    }


def observation_from_json(entry: dict[str, Any], pixels: UInt8[np.ndarray, " n"]) -> Observation:
    width, height = entry["size"]
    return Observation(
        pixels.reshape(height, width, 3),
        Camera.from_json(entry["camera"]),
        np.array(entry["ee_position"], float),
        float(entry["gripper"]),
        float(entry["time"]),
    )


def chunk_to_json(chunk: ActionChunk) -> dict[str, Any]:
    optional = {"pixel": chunk.pixel, "confidence": chunk.confidence, "rotation": chunk.rotation}
    return {
        "position": chunk.position.tolist(),
        "gripper": chunk.gripper.tolist(),
        "period": chunk.period,
        **{key: value.tolist() for key, value in optional.items() if value is not None},
    }


def chunk_from_json(entry: dict[str, Any]) -> ActionChunk:
    """`ValueError`, `KeyError` or `TypeError` for what is no chunk."""
    values = {key: np.array(entry[key], float) for key in entry if key != "period"}
    n = len(values["gripper"])
    if values["position"].shape != (n, 3) or n == 0 or not 0 < float(entry["period"]) < 10:
        raise ValueError(f"{values['position'].shape} positions, {n} openings, period {entry['period']}")
    return ActionChunk(period=float(entry["period"]), **values)


def receive(file: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """A message's line and the bytes behind it; None where the other end has closed."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    body = file.read(header.get("bytes", 0))
    return header, body
