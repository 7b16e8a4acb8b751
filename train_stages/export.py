"""Write the video model of a stage-one run as a diffusers pipeline folder, with a card that holds its checksums.

python -m train_stages.export --config_path configs/pretrain/export.yaml
"""

from dataclasses import dataclass
from pathlib import Path

from videopolicy.backbones import checksums, pipeline
from videopolicy.backbones.svd_config import Weights
from videopolicy.backbones.tuning import merged
from videopolicy.config import dump, from_dict, launch
from videopolicy.data.dataset import DataConfig
from videopolicy.data.files import replace_folder
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.manifest import write_manifest
from videopolicy.training.stage_one import checked, open_stage_one


@dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    run: Path = Path("runs/pretrain/unet")  # a stage-one run or checkpoint
    card: Path = Path("configs/pretrain/card.md")  # becomes the folder's README.md, checksums added
    output: Path = Path("weights/svd-tiny")
    overwrite: bool = False


def main(cfg: Config) -> Path:
    print(dump(cfg))
    backbone = open_stage_one(cfg.run)
    found = checked(cfg.run)
    if not cfg.card.is_file():
        raise BadInput(f"there is no card {cfg.card}")
    if cfg.output.exists() and not (cfg.overwrite and (cfg.output / "model_index.json").is_file()):
        raise BadInput(f"{cfg.output} exists; name another output, or replace a weights folder by --overwrite true")
    start: Weights = "random" if backbone.cfg.pretrained is None else "pretrained"
    parts = pipeline.load(backbone.cfg.pretrained, start, backbone.cfg.variant)
    parts.unet.load_state_dict(merged(backbone.unet.state_dict()))

    def write(new: Path) -> None:
        pipeline.save(parts, new)
        write_manifest(from_dict(DataConfig, checkpoint.read_config(found)["data"]), new / pipeline.MANIFEST)
        (new / checksums.CARD).write_text(card(cfg.card.read_text(), new))

    replace_folder(cfg.output, write)
    size = sum(f.stat().st_size for f in cfg.output.rglob("*") if f.is_file())
    n = sum(p.numel() for p in parts.unet.parameters())
    step = checkpoint.read_state(found)["step"]
    print(f"wrote {cfg.output}: {size / 1e6:.1f} MB, UNet {n / 1e6:.2f} M parameters, step {step}")
    return cfg.output


def card(text: str, folder: Path) -> str:
    """The card with the checksums of a folder's files."""
    return (
        f"{text.rstrip()}\n\n## Checksums\n"
        "sha256 of every file; loading through `backbone.pretrained` checks them.\n\n"
        f"```\n{checksums.listing(folder)}```\n"
    )


if __name__ == "__main__":
    launch(main, Config)
