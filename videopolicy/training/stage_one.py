"""Video models of stage-one checkpoints."""

from pathlib import Path

import torch

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.backbones.tuning import fitted
from videopolicy.config import from_dict
from videopolicy.data.files import reading
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint, restoring


def open_stage_one(path: Path) -> SVDBackbone:
    """The video model of a stage-one run or checkpoint, as it was configured there."""
    found = checked(path)
    with reading(found):
        theirs = checkpoint.read_config(found)["backbone"]
        cfg = from_dict(SVDConfig, {**theirs, "attention": "auto", "compile": "none"})
        backbone = SVDBackbone(cfg, checkpoint.read_state(found)["fps"])
    load_stage_one(found, backbone)
    return backbone


def load_stage_one(path: Path, backbone: SVDBackbone) -> str:
    """Give a video model the weights of a stage-one checkpoint, whichever of them were trained there; a report of that.

    Raises `BadInput` where that was made at another size, with another VAE or for another architecture.
    """
    found = checked(path)
    with reading(found):
        theirs = from_dict(SVDConfig, checkpoint.read_config(found)["backbone"])
    for name in ("image_size", "n_frames", "augmentation"):
        ours = getattr(backbone.cfg, name)
        if getattr(theirs, name) != ours:
            raise BadInput(f"backbone.{name} is {ours}, but {found} was trained with {getattr(theirs, name)}")
    restoring.check_frozen(found, checkpoint.read_state(found), backbone.identity)
    wrapped = torch.nn.ModuleDict({"backbone": backbone})
    return restoring.load_model(found, wrapped, lambda key: key.startswith("backbone.unet."), fitted, averaged=True)


def checked(path: Path) -> Path:
    """The checkpoint that a run or checkpoint folder names; `BadInput` where it is of another stage."""
    found = checkpoint.find(path)
    stage = checkpoint.read_state(found).get("stage")
    if stage != "video":
        raise BadInput(f"{found} is a checkpoint of stage {stage!r}; allowed: 'video' (train_stages/video.py)")
    return found
