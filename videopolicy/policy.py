"""A backbone and a head as a policy: observations in, action chunks out; and how both come back from what was saved."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy import exported
from videopolicy.backbones.backbone import Backbone
from videopolicy.backbones.image import ImageBackbone, ImageConfig
from videopolicy.backbones.lowered import keep_low
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.backbones.tuning import fitted
from videopolicy.backbones.unet import Compile
from videopolicy.config import from_dict
from videopolicy.data.files import reading
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig, make_head
from videopolicy.heads.head import ActionHead
from videopolicy.heads.heatmap import LOCATES
from videopolicy.images import resized
from videopolicy.training import checkpoint, restoring
from videopolicy.training.precision import Precision, has_bf16
from videopolicy.types import ActionChunk, Observation, check


class FeaturePolicy:
    """Acts on images through a backbone's features and a head; deterministic.

    The backbone runs in the precision it was trained in, the head, which costs little, in full precision.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: ActionHead,
        image_size: tuple[int, int],
        precision: Precision = "fp32",
    ) -> None:
        assert precision != "auto", "undecided: see `training/precision.py`"
        self.backbone, self.head, self.image_size, self.precision = backbone, head, image_size, precision

    def act(self, observation: Observation | Mapping[str, Any]) -> ActionChunk:
        """Of an observation, or its values by name (`Observation.of`); `BadInput` where they are none."""
        if not isinstance(observation, Observation):
            observation = Observation.of(observation)
        check(observation.image, observation.camera, observation.ee_position)
        return self.act_batch([observation])[0]

    @torch.inference_mode()
    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return self.head.decode(self.predict(observations), [o.camera for o in observations])

    def predict(self, observations: list[Observation]) -> Any:
        """The head's prediction, before decoding."""
        device = next(self.head.parameters()).device
        images = torch.from_numpy(np.stack([resized(o.image, self.image_size) for o in observations])).to(device)
        height = torch.tensor([o.ee_position[2] for o in observations], dtype=torch.float32)
        start = torch.stack([self._start_pixel(o) for o in observations])
        return self.read(images, start.to(device), height.to(device))

    def read(
        self,
        images: UInt8[Tensor, "batch height width 3"],
        start_pixel: Float[Tensor, "batch 2"],
        start_height: Float[Tensor, " batch"] | None = None,
    ) -> Any:
        """The same of pictures at the backbone's size, and start keypoints in them; NaN where there is none.

        The end effector's height [m] may be left out where `backbone.context` is not `hand`.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.backbone.forward(images, start_pixel, start_height)
        return self.head.forward(features)

    def _start_pixel(self, observation: Observation) -> Tensor:
        camera = observation.camera.resized(self.image_size)
        pixel = camera.project(observation.ee_position)
        return torch.from_numpy(np.where(camera.contains(pixel), pixel, np.nan)).float()


def load_policy(path: str | Path, device: str = "cpu") -> FeaturePolicy:
    """The policy of a run, of a checkpoint, or of a folder that `videopolicy.export` wrote, ready to act.

    `BadInput`, in one line, for a folder that holds none, is damaged, or is of a format that this version cannot read.
    """
    return load(Path(path), device)[0]


def load(path: Path, device: str = "cpu", compile: Compile = "none", acting: bool = True) -> tuple[FeaturePolicy, dict]:
    """The policy of a stage-two checkpoint (its folder, or its run's) or of an export, and its configuration.

    `compile`: a video model's blocks, at their first use. `acting`: `BadInput` for one that was pretrained on pixels.
    """
    kind = torch.device(device).type if device.startswith(("cpu", "cuda")) else None
    if kind is None or (kind == "cuda" and not torch.cuda.is_available()):
        raise BadInput(f"device is {device!r}; allowed: cpu, or cuda where there is a GPU")
    if whole := exported.is_one(path):
        config, state = exported.read(path)
    else:
        path = checkpoint.find(path)
        config, state = checkpoint.read_config(path), checkpoint.read_state(path)
    if "head" not in config:
        raise BadInput(f"{path} is a stage-one checkpoint, without an action head; name one of train_stages/joint.py")
    is_video = state["stage"] != "light"
    with reading(path):
        backbone: Any
        if not is_video:  # its network is in the checkpoint whole: no other weights are looked for
            backbone = ImageBackbone(from_dict(ImageConfig, {**config["backbone"], "weights": "random"}))
        else:
            # Kernels are the machine's business. To act no weight is trained: updates are merged into what they update.
            theirs = {**config["backbone"], "attention": "auto", "tune": "frozen", "compile": compile}
            backbone = _video_backbone(from_dict(SVDConfig, theirs), state, whole)
            restoring.check_frozen(path, state, backbone.identity)
        head = make_head(from_dict(HeadConfig, config["head"]), backbone, state["labels"], state["fps"])
        if acting and not head.acts:
            raise BadInput(LOCATES)
        both = nn.ModuleDict({"backbone": backbone, "head": head})
        if whole:
            exported.fill(path, both, state)
            if is_video:
                backbone.skip_silent()
        else:
            used = ("backbone.", "head.")  # not what the loss keeps
            restoring.load_model(path, both, lambda key: key.startswith(used), fitted, averaged=True)
        precision = config["train"]["mixed_precision"]
        if precision not in ("fp32", "bf16"):
            raise BadInput(f"train.mixed_precision is {precision!r}; allowed: fp32, bf16")
    if precision == "bf16" and not has_bf16(kind):
        warnings.warn(f"{path} acts in bf16, which this machine has no instructions for: it will be slow", stacklevel=2)
    if kind == "cuda" and precision == "bf16" and is_video:
        keep_low(backbone.unet)
        keep_low(backbone.image_encoder)
    both.eval().to(device)
    return FeaturePolicy(backbone, head, backbone.image_size, precision), config


def _video_backbone(cfg: SVDConfig, state: dict, whole: bool) -> Any:
    """Of a checkpoint's state; of an export's, `whole`, its weights are yet to be filled in."""
    from videopolicy.backbones import pipeline  # seconds of diffusers, which no image backbone's policy waits for
    from videopolicy.backbones.svd import SVDBackbone

    parts = pipeline.untrained(state["video_model"], state["frozen"]) if whole else None
    return SVDBackbone(cfg, state["fps"], parts)
