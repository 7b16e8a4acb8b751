"""Files that hold cameras: `{name: {K, T_world_cam, size, mount, ...}}`."""

from pathlib import Path

from videopolicy.camera import Camera
from videopolicy.data.files import read_json, reading
from videopolicy.errors import BadInput

FILE = "meta/para_cameras.json"


def read_camera(path: Path) -> Camera:
    """The one camera of a file: by itself, as `Camera.to_json` has it, or the only one of several by name."""
    entry = read_json(path)
    if not any(isinstance(value, dict) for value in entry.values()):
        return _cameras(path, {path.stem: entry})[path.stem]
    found = _cameras(path, entry)
    if len(found) != 1:
        raise BadInput(f"{path} holds {len(found)} cameras, {', '.join(found)}; allowed: a file with one")
    return next(iter(found.values()))


def read_cameras(path: Path) -> dict[str, Camera]:
    """Cameras by name; `BadInput` names the file, the camera and what is wrong with it."""
    return _cameras(path, read_json(path))


def _cameras(path: Path, entries: dict) -> dict[str, Camera]:
    found = {}
    for name, entry in entries.items():
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
