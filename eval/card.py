"""A dataset's card: what was kept and what failed, the cameras, and a contact sheet with the true path drawn in."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from videopolicy.data.files import replace
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import spread

N_SHOWN, COLUMNS, TILE = 64, 8, 160  # episodes on the sheet, its columns, and their width [pixels]


def write_card(root: Path, reprojection: float, origin: str = "a scripted expert in LIBERO") -> None:
    """Write README.md and meta/contact_sheet.jpg; `reprojection` is the camera self-test's largest error [pixels].

    `origin` says whose demonstrations they are.
    """
    data = Dataset(root)
    extras = data.extras()
    pixels = [data.camera_of(e).project(data.state(e)[:, :3]) for e in range(len(data))]
    inside = np.concatenate([data.camera_of(e).contains(p) for e, p in enumerate(pixels)])
    heights = np.concatenate([data.state(e)[:, 2] for e in range(len(data))])
    attempts = sum(e.get("attempts", 1) for e in extras)
    sheet = [_tile(data, e, pixels[e]) for e in spread(len(data), N_SHOWN)]
    sheet += [np.zeros_like(sheet[0])] * (-len(sheet) % COLUMNS)
    rows = [np.concatenate(sheet[i : i + COLUMNS], 1) for i in range(0, len(sheet), COLUMNS)]
    picture = Image.fromarray(np.concatenate(rows))
    replace(root / "meta/contact_sheet.jpg", lambda path: picture.save(path, "jpeg", quality=85))

    cameras = {tuple(np.round(data.camera_of(e).T_world_cam.ravel(), 9)) for e in range(len(data))}
    camera, overlay = data.camera, data.overlay or {"kind": "none", "robot": "shown"}
    lines = [
        f"# {root.name}",
        "",
        f"{data.info['total_episodes']} demonstrations of {origin}, {data.info['total_frames']}"
        f" frames of {camera.size[0]}x{camera.size[1]} pixels at {data.fps} per second, LeRobot format"
        f" {data.info['codebase_version']}.",
        "",
        "| what | value |",
        "|---|---|",
        f"| episodes kept | {len(extras)} |",
        f"| attempts that failed before one was kept | {attempts - len(extras)} |",
        f"| simulators that died, their episodes repeated | {sum(e.get('restarts', 0) for e in extras)} |",
        f"| frames per episode | {min(map(data.length, range(len(data))))} to"
        f" {max(map(data.length, range(len(data))))} |",
        f"| end effector in the picture | {inside.sum()} of {len(inside)} frames |",
        f"| its height above the table | {heights.min():.3f} to {heights.max():.3f} m |",
        f"| cameras | {len(cameras)} |",
        f"| robot | {data.info['robot_type']} |",
        f"| drawn over the pictures | {overlay['kind']}, robot {overlay['robot']} |",
        f"| reprojection error of markers | at most {reprojection:.2f} pixels |",
        "",
        "Intrinsics K, and the pose T_world_cam of the first episode's camera (OpenCV axes, metres; the others stand in"
        " `meta/para_episodes.jsonl`):",
        "",
        "```",
        np.array2string(camera.K.round(3), suppress_small=True),
        np.array2string(camera.T_world_cam.round(4), suppress_small=True),
        "```",
        "",
        "First frames, with the path that the end effector takes, projected (from green to red):",
        "",
        "![first frames](meta/contact_sheet.jpg)",
        "",
    ]
    replace(root / "README.md", lambda path: path.write_text("\n".join(lines)))


def _tile(data: Dataset, episode: int, pixel: np.ndarray) -> np.ndarray:
    image = Image.fromarray(data.frames(episode)[0])
    scale = TILE / image.width
    image = image.resize((TILE, round(image.height * scale)))
    draw = ImageDraw.Draw(image)
    for i, (u, v) in enumerate(pixel[~np.isnan(pixel).any(1)] * scale):
        share = i / len(pixel)
        draw.ellipse([u - 1.5, v - 1.5, u + 1.5, v + 1.5], fill=(int(255 * share), int(255 * (1 - share)), 40))
    return np.asarray(image)
