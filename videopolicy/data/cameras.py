"""Files that hold cameras: `{name: {K, T_world_cam, size, mount, ...}}`."""

from pathlib import Path

from videopolicy.camera import Camera
from videopolicy.data.files import read_json, reading
from videopolicy.errors import BadInput

FILE = "meta/para_cameras.json"


def read_cameras(path: Path) -> dict[str, Camera]:
    """Cameras by name; `BadInput` names the file, the camera and what is wrong with it."""
    found = {}
    for name, entry in read_json(path).items():
        with reading(path):
            try:
                found[name] = Camera.from_json(entry)
                if any(entry.get("distortion") or ()):
                    raise BadInput(f"distortion is {entry['distortion']}; allowed: none; undistort pictures first")
            except Exception as error:
                raise BadInput(f"camera {name!r}: {type(error).__name__}: {error}") from error
    return found


def moving(path: Path) -> bool:
    """Whether the cameras of a dataset move between episodes."""
    return any(isinstance(c, dict) and c.get("mount") == "moving" for c in read_json(path).values())
