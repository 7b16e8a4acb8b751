"""Observations and action chunks as JSON and bytes, between the arm's process and the policy's."""

import base64
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
    entry = {
        "position": chunk.position.tolist(),
        "gripper": chunk.gripper.tolist(),
        "period": chunk.period,
        **{key: value.tolist() for key, value in optional.items() if value is not None},
    }
    if chunk.heatmaps is not None:
        data = base64.b64encode(chunk.heatmaps.tobytes()).decode()
        entry["heatmaps"] = {"shape": list(chunk.heatmaps.shape), "base64": data}
    return entry


def chunk_from_json(entry: dict[str, Any]) -> ActionChunk:
    """`ValueError`, `KeyError` or `TypeError` for what is no chunk."""
    values = {key: np.array(entry[key], float) for key in entry if key not in ("period", "heatmaps")}
    n = len(values["gripper"])
    if values["position"].shape != (n, 3) or n == 0 or not 0 < float(entry["period"]) < 10:
        raise ValueError(f"{values['position'].shape} positions, {n} openings, period {entry['period']}")
    heatmaps = _heatmaps(entry["heatmaps"], n) if "heatmaps" in entry else None
    return ActionChunk(period=float(entry["period"]), heatmaps=heatmaps, **values)


def _heatmaps(entry: dict[str, Any], n_steps: int) -> UInt8[np.ndarray, "step row col"]:
    steps, rows, cols = entry["shape"]
    if steps != n_steps:
        raise ValueError(f"heatmaps of {steps} steps, {n_steps} openings")
    return np.frombuffer(base64.b64decode(entry["base64"], validate=True), np.uint8).reshape(steps, rows, cols)


def receive(file: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """A message's line and the bytes behind it; None where the other end has closed."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    body = file.read(header.get("bytes", 0))
    return header, body
