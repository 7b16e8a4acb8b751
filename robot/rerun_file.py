"""Telemetry and pictures as a Rerun recording: camera, picture, heatmaps, waypoints, arm, curves and words in seconds.

The only file that knows Rerun. Entities: `base` is the arm's base frame, in it the arm, its target and `base/world`,
the policy's frame, with camera and waypoints; `position`, `goal`, `load` and `opening` are curves, `mode` is words.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import rerun as rr
from jaxtyping import Float, UInt8
from PIL import Image
from rerun import blueprint as rrb

from robot import pictures
from robot.calibration import NAMES
from robot.kinematics import JOINTS, Kinematics
from robot.pictures import Look

TIME = "time"  # [s] since the first tick
CAMERA = "base/world/camera"
CLOSED, OPEN = np.array([220.0, 60, 40]), np.array([40.0, 170, 70])  # waypoints by the gripper
FIRST, LAST = np.array([255.0, 220, 0]), np.array([230.0, 0, 200])  # heatmaps by their step
THIN, THICK = 0.002, 0.006  # radii [m]
CURVES = {"position": JOINTS, "goal": JOINTS, "load": NAMES, "opening": ("opening",)}


def recorded(ticks: pa.Table, looks: Sequence[Path]) -> bytes:
    """A recording of telemetry and the pictures beside it (`pictures.files`); `BadInput` names a damaged one."""
    rr.set_strict_mode(True)
    recording = rr.RecordingStream("videopolicy")
    recording.set_log_time_enabled(False)
    recording.set_log_tick_enabled(False)
    # Into memory: a disk that is full is noticed where the file is written, not in a thread of Rerun's.
    stream = rr.binary_stream(recording)
    recording.send_blueprint(_views(bool(looks)))
    recording.log("base", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    now = column(ticks, "now")
    _log_arm(recording, ticks, now - now[0])
    _log_words(recording, ticks, now - now[0])
    for path in looks:
        _log_look(recording, pictures.read(path), path.with_suffix(".jpg").read_bytes(), now[0])
    data = stream.read()
    assert data is not None
    return data


def column(ticks: pa.Table, name: str) -> Float[np.ndarray, "tick ..."]:
    return np.array(ticks[name].to_pylist(), float)


def _log_arm(recording: rr.RecordingStream, ticks: pa.Table, seconds: Float[np.ndarray, " tick"]) -> None:
    time = rr.TimeColumn(TIME, duration=seconds)
    for name, labels in CURVES.items():
        recording.log(name, rr.SeriesLines(names=labels), static=True)
        recording.send_columns(name, [time], rr.Scalars.columns(scalars=column(ticks, name).reshape(-1, len(labels))))
    kinematics = Kinematics()
    strips = [kinematics.joints(q) for q in column(ticks, "position")]
    radii, colours = np.full(len(strips), THICK), np.full((len(strips), 3), 130, np.uint8)
    recording.send_columns("base/arm", [time], rr.LineStrips3D.columns(strips=strips, radii=radii, colors=colours))
    target = column(ticks, "target")
    there = np.isfinite(target).all(1)
    points = rr.Points3D.columns(positions=target[there], radii=np.full(there.sum(), THICK))
    recording.send_columns("base/target", [time], points.partition(there.astype(int)))


def _log_words(recording: rr.RecordingStream, ticks: pa.Table, seconds: Float[np.ndarray, " tick"]) -> None:
    """Mode and why where they change; of a hold, whose words count seconds, the first ones."""
    said = ("", "")
    for time, *words in zip(seconds, ticks["mode"].to_pylist(), ticks["why"].to_pylist(), strict=True):
        mode, why = words
        if (mode, why) != said and (mode != said[0] or mode != "hold"):
            recording.set_time(TIME, duration=time)
            level = rr.TextLogLevel.INFO if mode in ("run", "off") else rr.TextLogLevel.WARN
            recording.log("mode", rr.TextLog(f"{mode}: {why}" if why else mode, level=level))
        said = (mode, why)


def _log_look(recording: rr.RecordingStream, look: Look, jpeg: bytes, begun: float) -> None:
    """Picture and heatmaps at the moment it was taken; waypoints when they came."""
    camera, chunk = look.observation.camera, look.chunk
    recording.set_time(TIME, duration=look.captured - begun)
    recording.log("base/world", rr.Transform3D(translation=[0.0, 0.0, look.table]))
    pose = camera.T_world_cam
    recording.log(CAMERA, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
    recording.log(CAMERA, rr.Pinhole(image_from_camera=camera.K, resolution=camera.size, image_plane_distance=0.1))
    recording.log(f"{CAMERA}/picture", rr.EncodedImage(contents=jpeg, media_type="image/jpeg"))
    if chunk.heatmaps is not None:
        png = over(chunk.heatmaps, camera.size)
        recording.log(f"{CAMERA}/heatmaps", rr.EncodedImage(contents=png, media_type="image/png", draw_order=1.0))
    recording.set_time(TIME, duration=look.came - begun)
    colours = (CLOSED + np.clip(chunk.gripper, 0, 1)[:, None] * (OPEN - CLOSED)).astype(np.uint8)
    finite = np.isfinite(chunk.position).all(1) & np.isfinite(chunk.gripper)
    way, colours = chunk.position[finite], colours[finite]
    recording.log("base/world/waypoints", rr.Points3D(way, colors=colours, radii=THICK))
    lines = np.stack([way[:-1], way[1:]], 1)
    recording.log("base/world/way", rr.LineStrips3D(lines, colors=colours[1:], radii=THIN))


def over(heatmaps: UInt8[np.ndarray, "step row col"], size: tuple[int, int]) -> bytes:
    """A PNG of a picture's size (width, height) to lie over it: of each pixel the likeliest step, clear without any."""
    large = np.stack([np.asarray(Image.fromarray(m).resize(size, Image.Resampling.BILINEAR)) for m in heatmaps])
    share = np.linspace(0, 1, len(heatmaps))[large.argmax(0)][..., None]
    pixels = np.concatenate([FIRST + share * (LAST - FIRST), large.max(0)[..., None]], 2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _views(seen: bool) -> rrb.Blueprint:
    """What the viewer opens with; `seen`: there are pictures."""
    drawn = ["$origin/**", "/base/world/waypoints", "/base/world/way", "/base/arm"]
    picture = [rrb.Spatial2DView(origin=CAMERA, contents=drawn, name="camera")] * seen
    angles = rrb.TimeSeriesView(contents=["/position", "/goal"], name="angles [rad]")
    curves = [angles, rrb.TimeSeriesView(contents=["/load", "/opening"], name="loads, opening")]
    words = rrb.TextLogView(origin="mode", name="mode")
    space = rrb.Spatial3DView(origin="base", name="arm")
    return rrb.Blueprint(rrb.Horizontal(rrb.Vertical(space, words), rrb.Vertical(*picture, *curves)))
