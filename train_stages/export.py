"""Write the video model of a stage-one run as a diffusers pipeline folder, with a card that holds its checksums.

python -m train_stages.export --config_path configs/pretrain/export.yaml
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from videopolicy.backbones import pipeline
from videopolicy.backbones.svd import SVDBackbone, SVDConfig
from videopolicy.config import from_dict, launch
from videopolicy.data.lerobot import read_extras
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

MANIFEST = "corpus.jsonl"


@dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    run: Path = Path("runs/pretrain/unet")  # a stage-one run or checkpoint
    card: Path = Path("configs/pretrain/card.md")  # becomes the folder's README.md, checksums added
    output: Path = Path("weights/svd-tiny")
    overwrite: bool = False


def main(cfg: Config) -> Path:
    found = checkpoint.find(cfg.run)
    state = checkpoint.read_state(found)
    if state.get("stage") != "video":
        raise BadInput(f"{found} is a checkpoint of stage {state.get('stage')!r}; allowed: 'video'")
    if not cfg.card.is_file():
        raise BadInput(f"there is no card {cfg.card}")
    if cfg.output.exists() and not cfg.overwrite:
        raise BadInput(f"{cfg.output} exists; name another output, or say --overwrite true")

    # The run's weights in the pipeline that it was trained in.
    backbone = SVDBackbone(from_dict(SVDConfig, checkpoint.read_config(found)["backbone"]), state["fps"])
    checkpoint.check_frozen(found, state, backbone.identity)
    wrapped = torch.nn.ModuleDict({"backbone": backbone})
    checkpoint.load_model(found, wrapped, accept=lambda key: key.startswith("backbone."))
    parts = pipeline.load(backbone.cfg.pretrained)
    parts.unet = backbone.unet

    # Written aside, then put in place: a folder is whole or as it was.
    cfg.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cfg.output.parent) as aside:
        new = Path(aside) / "new"
        pipeline.save(parts, new)
        write_manifest(Path(checkpoint.read_config(found)["data"]["root"]), new / MANIFEST)
        (new / pipeline.CARD).write_text(card(cfg.card.read_text(), new))
        if cfg.output.exists():
            cfg.output.rename(Path(aside) / "old")
        new.rename(cfg.output)
    size = sum(f.stat().st_size for f in cfg.output.rglob("*") if f.is_file())
    n = sum(p.numel() for p in parts.unet.parameters())
    print(f"wrote {cfg.output}: {size / 1e6:.1f} MB, UNet {n / 1e6:.2f} M parameters, step {state['step']}")
    return cfg.output


def write_manifest(root: Path, path: Path) -> None:
    """What every clip of the corpus shows, one JSON line each, so that anyone can check what is not in it."""
    extras = read_extras(root)
    lines = [json.dumps({k: v for k, v in e.items() if k not in ("camera", "episode_index")}) for e in extras]
    path.write_text("".join(line + "\n" for line in lines))


def card(text: str, folder: Path) -> str:
    """The card with the checksums of a folder's files."""
    return (
        f"{text.rstrip()}\n\n## Checksums\n"
        "sha256 of every file; loading through `backbone.pretrained` checks them.\n\n"
        f"```\n{pipeline.checksums(folder)}```\n"
    )


if __name__ == "__main__":
    launch(main, Config)
