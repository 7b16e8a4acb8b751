"""A policy as a folder that needs nothing else: neither its run nor pretrained weights nor a network.

model.safetensors   all weights that it acts with, in half precision where that loses nothing; or in several files,
                    model-00001-of-00007.safetensors and so on, where one was to be no larger than some size
config.json         the configuration that it was trained with
policy.json         what else it is made of, what it takes and gives, and the sums of these two; without it, no export
README.md           a model card, for people

`export.py` writes it, `policy.load` acts with it.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from videopolicy.data.files import differing, read_json, reading
from videopolicy.errors import BadInput
from videopolicy.heads.para import ParaHead
from videopolicy.training.checkpoint import CONFIG, MODEL
from videopolicy.training.restoring import put, read_tensors

FORMATS = WHOLE, IN_PARTS = 1, 2
ABOUT, CARD = "policy.json", "README.md"
CONVENTIONS = {
    "world": "metres, z up, z = 0 on the surface that things stand on",
    "T_world_cam": "4 x 4, maps camera coordinates to world coordinates; camera axes x right, y down, z forward",
    "K": "3 x 3 intrinsics of the picture as it is given; the picture is free of lens distortion",
    "pixel": "(u, v), u right, v down, continuous: the centre of the first pixel is (0.5, 0.5), OpenCV's (0, 0)",
    "gripper": "0 closed ... 1 open",
}


def is_one(path: Path) -> bool:
    return (path / ABOUT).is_file()


def read(path: Path) -> tuple[dict, dict]:
    """The configuration a policy was trained with, and `policy.json`.

    `BadInput` for a format that this version does not know, and for files that are not what was written.
    """
    about = read_json(path / ABOUT)
    with reading(path / ABOUT):
        if about.get("format") not in FORMATS:
            known = ", ".join(map(str, FORMATS))
            raise BadInput(f"format is {about.get('format')!r}; this version of videopolicy reads {known}")
        problem = differing(path, {name: about["files"][name] for name in (CONFIG, *weight_files(about))}, ABOUT)
    if problem:
        raise BadInput(f"the exported policy {path} is damaged: {problem}; copy or export it again")
    return read_json(path / CONFIG), about


def fill(path: Path, both: nn.ModuleDict, about: dict) -> None:
    """Load an export's weights into its backbone and head; `BadInput` where they or its bins are of others."""
    weights: dict[str, Tensor] = {}
    for name in weight_files(about):
        weights |= read_tensors(path / name)
    put(path, both, both.state_dict(), weights)
    if (found := bins(both["head"])) != about["bins"]:
        raise BadInput(f"{path / ABOUT} has bins {about['bins']}; this version of videopolicy makes {found} of them")


def weight_files(about: dict) -> list[str]:
    """Names of the files that hold an export's weights."""
    return [MODEL] if about["format"] == WHOLE else sorted(name for name in about["files"] if name != CONFIG)


def weights_digest(path: Path) -> str:
    """What identifies the weights that an export acts with."""
    _, about = read(path)
    sums = [about["files"][name]["sha256"] for name in weight_files(about)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def in_files(weights: dict[str, Tensor], most: int | None) -> dict[str, dict[str, Tensor]]:
    """Weights by the file that they go to, each of at most so many bytes, or of one tensor; None: one file."""
    parts: list[dict[str, Tensor]] = [{}]
    for name, value in weights.items():
        if most is not None and parts[-1] and sum(v.nbytes for v in parts[-1].values()) + value.nbytes > most:
            parts.append({})
        parts[-1][name] = value
    if len(parts) == 1:
        return {MODEL: weights}
    stem, kind = MODEL.split(".")
    return {f"{stem}-{i:05d}-of-{len(parts):05d}.{kind}": part for i, part in enumerate(parts, 1)}


def bins(head: Any) -> dict[str, dict]:
    """Of a pixel-aligned head the intervals that it classifies heights [m] and grippers into; none of others."""
    if not isinstance(head, ParaHead):
        return {}
    return {name: asdict(of) for name, of in (("height", head.height_bins), ("gripper", head.gripper_bins))}


def stored(value: Tensor) -> Tensor:
    """A copy to be written: in half precision where every number is one of it."""
    value = value.detach().cpu().contiguous().clone()
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if half.to(value.dtype).equal(value) else value
