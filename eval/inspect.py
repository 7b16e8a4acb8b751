"""What a policy says of one picture, for a person: a picture of it, and its numbers beside it.

python -m eval.inspect --policy runs/x --image frame.png --camera camera.json --start "[120, 80]"
python -m eval.inspect --policy runs/x --dataset data/x --episode 3 --frame 0

Heatmaps of every step, heights, gripper, the lifted path on the picture and from above, confidence; for a dataset's
frame also what happened. `--start` is the end effector's pixel, which policies are told; or `--ee_position` in metres.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from eval.inspection import Reading, draw, read
from videopolicy.camera import Camera
from videopolicy.config import dump, launch
from videopolicy.data.cameras import read_camera
from videopolicy.data.files import reading, replace, write_json
from videopolicy.data.lerobot import Dataset
from videopolicy.data.targets import Waypoints, track_waypoints, waypoints
from videopolicy.errors import BadInput, at_least_one
from videopolicy.policy import FeaturePolicy, load
from videopolicy.types import check


@dataclass(frozen=True)
class Config:
    """Which policy, and what it is shown: a picture, or a dataset's frame."""

    policy: Path = Path("runs/light/para")  # a run, a checkpoint, or exported
    image: Path | None = None
    camera: Path | None = None  # of that picture: {K, T_world_cam, size}, or a file of one camera by name
    start: tuple[float, float] | None = None  # the end effector in it (u, v) [pixels]; null: not to be seen
    ee_position: tuple[float, float, float] | None = None  # the same in the world [m], seen by the camera
    dataset: Path | None = None
    episode: int = 0
    frame: int = 0
    output: Path = Path("runs/inspect.png")  # the numbers stand beside it, in a file of the same name in .json
    n_threads: int = 1


@dataclass(frozen=True)
class Shown:
    """What a policy is shown, in pixels of the picture as it is; NaN for a start keypoint that is not in it."""

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    camera: Camera | None
    start: Float[np.ndarray, " 2"]
    ee_position: Float[np.ndarray, " 3"] | None
    truth: Waypoints | None


def main(cfg: Config) -> dict:
    print(dump(cfg))
    at_least_one(cfg, "n_threads")
    if cfg.output.suffix != ".png":
        raise BadInput(f"output is {cfg.output}; allowed: a name in .png")
    if (cfg.image is None) == (cfg.dataset is None):
        raise BadInput(f"image is {cfg.image} and dataset is {cfg.dataset}; allowed: one of the two")
    torch.set_num_threads(cfg.n_threads)
    policy, config = load(cfg.policy, acting=False)
    shown = _of_image(cfg) if cfg.dataset is None else _of_dataset(cfg, cfg.dataset, policy)
    if policy.head.acts and shown.camera is None:
        raise BadInput(f"{shown.name} has no camera, without which {cfg.policy} cannot lift pixels; name it by camera")
    found = read(policy, shown.image, shown.camera, shown.start, shown.ee_position)
    lacks = lacking(found, config["head"]["kind"])
    steps = numbers(found, shown)
    summary = {"policy": str(cfg.policy), "head": config["head"]["kind"], "shown": shown.name}
    summary |= {"picture_size": list(shown.image.shape[1::-1]), "policy_size": list(policy.image_size)}
    summary |= {"start_pixel": _list(shown.start), "not_shown": lacks, "steps": steps}
    title = f"{cfg.policy}: {summary['head']} of {shown.name}"
    figure = draw(found, shown.truth, shown.ee_position, title, lacks)
    replace(cfg.output, lambda to: figure.savefig(to, format="png", dpi=110))
    beside = cfg.output.with_suffix(".json")
    write_json(beside, summary)
    print("\n".join([table(steps), *lacks, f"wrote {cfg.output}, {beside}"]))
    return summary


def lacking(found: Reading, kind: str) -> list[str]:
    """What of a picture's parts this head does not have."""
    lacks = []
    if found.heatmap is None:
        lacks.append(f"the head {kind} has no heatmaps of its steps, no confidence and no bins: the path alone")
    if found.chunk is None:
        lacks.append("the head was trained on pixels alone (head.labels 2d): no heights, no gripper, no path in space")
    if np.isnan(found.start).any():
        lacks.append("no start keypoint: the picture does not show the end effector, or nobody said where it is")
    return lacks


def numbers(found: Reading, shown: Shown) -> list[dict]:
    """A row per step, pixels in those of the picture; with what happened where that is known."""
    rows = []
    for i in range(len(found.pixel)):
        row: dict = {"step": i + 1, "pixel": _list(found.pixel[i])}
        if (chunk := found.chunk) is not None:
            row |= {"time_s": float(chunk.times[i]), "position_m": _list(chunk.position[i])}
            row |= {"height_m": float(chunk.position[i, 2]), "gripper": float(chunk.gripper[i])}
            if chunk.rotation is not None:
                row["rotation_rad"] = _list(chunk.rotation[i])
        if found.confidence is not None:
            row["confidence"] = float(found.confidence[i])
        if (truth := shown.truth) is not None and truth.in_episode[i]:
            row |= {"true_pixel": _list(truth.pixel[i]), "true_position_m": _list(truth.position[i])}
            if chunk is not None:
                row["error_m"] = float(np.linalg.norm(chunk.position[i] - truth.position[i]))
        rows.append(row)
    return rows


def table(steps: list[dict]) -> str:
    """The numbers as text; a dash for what is not known."""
    columns = ("step", "time_s", "x [m]", "y [m]", "height_m", "gripper", "confidence", "u", "v", "error_m")
    lines = ["".join(f"{name:>11}" for name in columns)]
    for row in steps:
        x, y, _ = row.get("position_m") or [None] * 3
        u, v = row["pixel"] or [None] * 2
        values = {**row, "x [m]": x, "y [m]": y, "u": u, "v": v}
        texts = ("-" if values.get(n) is None else f"{values[n]:.3f}".removesuffix(".000") for n in columns)
        lines.append("".join(f"{text:>11}" for text in texts))
    return "\n".join(lines)


def _of_image(cfg: Config) -> Shown:
    assert cfg.image is not None
    with reading(cfg.image):
        image = np.asarray(Image.open(cfg.image).convert("RGB"))
    size = image.shape[1::-1]
    camera = None if cfg.camera is None else read_camera(cfg.camera)
    position = None if cfg.ee_position is None else np.array(cfg.ee_position)
    if camera is not None:
        check(image, camera, np.zeros(3) if position is None else position)
    start = np.full(2, np.nan) if cfg.start is None else np.array(cfg.start)
    if position is not None:
        if cfg.start is not None or camera is None:
            raise BadInput(f"ee_position is {list(position)}; allowed: with a camera, and instead of start")
        start = camera.project(position)
        start = np.where(camera.contains(start), start, np.nan)
    elif cfg.start is not None and not ((start >= 0) & (start < size)).all():
        raise BadInput(f"start is {list(cfg.start)}; allowed: a pixel of {cfg.image}, {size[0]} x {size[1]}, or null")
    return Shown(str(cfg.image), image, camera, start, position, None)


def _of_dataset(cfg: Config, root: Path, policy: FeaturePolicy) -> Shown:
    for name in ("camera", "start", "ee_position"):
        if getattr(cfg, name) is not None:
            raise BadInput(f"{name} is {getattr(cfg, name)}; allowed with a dataset, which has its own: null")
    data, e, t = Dataset(root), cfg.episode, cfg.frame
    if not 0 <= e < len(data):
        raise BadInput(f"episode is {e}; allowed: 0 to {len(data) - 1} of {root}")
    if not 0 <= t < data.length(e):
        raise BadInput(f"frame is {t}; allowed: 0 to {data.length(e) - 1} of episode {e}")
    image, n = data.frames(e, np.array([t]))[0], policy.head.n_steps
    name = f"{root}, episode {e}, frame {t}"
    if data.tracked:
        truth = track_waypoints(data.track(e), data.size, t, n)
        return Shown(name, image, None, truth.start_pixel, None, truth)
    truth = waypoints(data.state(e), data.action(e), data.camera_of(e), t, n)
    return Shown(name, image, data.camera_of(e), truth.start_pixel, data.state(e)[t, :3], truth)


def _list(values: np.ndarray) -> list[float] | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(values).any() else [round(float(x), 5) for x in values]


if __name__ == "__main__":
    launch(main, Config)
