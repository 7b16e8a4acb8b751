"""The lifting's sensitivity in LIBERO: for a report, of trained policies; for an evaluation, beside its episodes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from eval.positions import grid
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.data.files import read_json, reading
from videopolicy.data.lerobot import Dataset
from videopolicy.heads.para import ParaHead
from videopolicy.lifting import sensitivities
from videopolicy.training import checkpoint

FILE = "sensitivity.json"  # beside an evaluation's episodes
HEIGHTS = (0.02, 0.20)  # [m]
WHERE = "the position grid at 2 and 20 cm above the table"


def grid_points() -> Float[np.ndarray, "n 3"]:
    """Where policies are asked to go: all over the position grid, low and high [m]."""
    return np.concatenate([np.column_stack([grid("all"), np.full(256, z)]) for z in HEIGHTS])


def policy_sensitivity(runs: Iterable[Path], others: dict[str, Camera]) -> dict:
    """`sensitivities` of the first pixel-aligned policy among `runs` that is still there with its data.

    Before its dataset's own camera and `others`, at the size of the policy's pictures. Empty where there is none.
    """
    for run in runs:
        if (found := checkpoint.latest(run)) is None:
            continue
        config = checkpoint.read_config(found)
        root = Path(config["data"]["root"])
        if config["head"]["kind"] == "para" and (root / "meta/info.json").is_file():
            low, high = checkpoint.read_state(found)["labels"]["height"]
            width = Bins.around(low, high, config["head"]["para"]["n_height"]).width
            cameras = {f"of {root}": Dataset(root).camera, **others}
            return sensitivities(cameras, grid_points(), width, tuple(config["backbone"]["image_size"]), WHERE)
    return {}


def head_sensitivity(head: ParaHead, data: Dataset) -> dict:
    """`sensitivities` of a policy's head before its dataset's own camera."""
    return sensitivities(
        {f"of {data.root}": data.camera}, grid_points(), head.height_bins.width, head.image_size, WHERE
    )


def kept_sensitivity(folders: Iterable[Path]) -> dict:
    """The first that an evaluation has left in its folder; empty where none has."""
    for path in (folder / FILE for folder in folders):
        if path.is_file():
            with reading(path):
                found = read_json(path)
                return {name: found[name] for name in ("rows", "image_size", "where")}
    return {}


def lines(found: dict) -> str:
    """The table as text."""
    return "\n".join(
        [f"{'a lifted point moves by':<32}{'mean [mm]':>10}{'largest':>10}   ({found['where']})"]
        + [f"{r['cause']:<32}{r['mean_mm']:>10.1f}{r['max_mm']:>10.1f}" for r in found["rows"]]
    )
