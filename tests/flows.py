"""The whole job in miniature, made once by the scripts' own `main`, for the tests that look at parts of it."""

import json
from pathlib import Path
from typing import Any

from eval import collect, report, rollout
from train_stages import export, joint, vae, video
from videopolicy.backbones import pipeline
from videopolicy.backbones.pipeline import Architecture
from videopolicy.config import load

ROOT = Path(__file__).parent.parent
# What of a line of metrics the clock or the machine says.
SPEED = {"seconds", "wait_share", "samples_per_second", "peak_memory_gib", "tflop_per_second", "gflop_per_sample"}


def config(kind: type, name: str, /, **overrides: object) -> Any:
    """A debug configuration with some keys replaced."""
    arguments = [x for key, value in overrides.items() for x in (f"--{key.replace('__', '.')}", str(value))]
    return load(kind, ["--config_path", str(ROOT / f"configs/debug/{name}.yaml"), *arguments])


def make(folder: Path) -> None:
    """Weights, data, both stages with both heads, rollouts and report."""
    corpus, base = folder / "corpus", folder / "vae/pipeline"
    collect.main(config(collect.Config, "corpus", output=corpus))
    vae.main(config(vae.Config, "vae", run=folder / "vae", data__root=corpus))
    unet = {"run": folder / "unet", "data__root": corpus, "backbone__pretrained": base}
    video.main(config(video.Config, "unet", **unet))
    export.main(config(export.Config, "export", run=folder / "unet", output=folder / "weights"))
    collect.main(config(collect.Config, "collect", output=folder / "data"))
    video.main(config(video.Config, "video", **paths(folder, "video")))
    for name in ("joint_para", "joint_global"):
        where = {"init_from": folder / "video", "data__select": "left", **paths(folder, name)}
        joint.main(config(joint.Config, name, **where))
    rollout.main(rollout_config(folder))
    report.main(folder)


def paths(folder: Path, run: Path | str) -> dict:
    """Where a stage finds its data and its video model, and where it writes."""
    return {"run": folder / run, "data__root": folder / "data", "backbone__pretrained": folder / "weights"}


def rollout_config(folder: Path) -> rollout.Config:
    names = {"svd+para": str(folder / "joint_para"), "svd+global": str(folder / "joint_global")}
    return config(rollout.Config, "rollout", output=folder / "rollout", policies=json.dumps(names))


def toy_weights(folder: Path) -> Path:
    """Another video model of the same shapes, with another VAE."""
    size = Architecture((64, 64), 3, 4, (32, 32), (False, True), vae_channels=(32, 32))
    pipeline.save(pipeline.create(size, seed=7), folder / "toy")
    return folder / "toy"
