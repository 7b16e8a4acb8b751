"""Write a policy as a folder that can be given away: all of its weights, what it takes and gives, and a model card.

python -m videopolicy.export --run runs/demo/joint_para --output exported/joint_para

What `videopolicy.load_policy` makes of the folder acts bit for bit as the run does, without the run, the pretrained
weights it was begun from, or a network. `--file_mib 15` writes weights in files of at most 15 MiB.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from videopolicy import exported, model_card
from videopolicy.backbones import pipeline
from videopolicy.backbones.lowered import keep_low
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.config import dump, launch
from videopolicy.data.files import described, replace_folder, sync, write_json, writing
from videopolicy.errors import BadInput
from videopolicy.policy import FeaturePolicy, load
from videopolicy.provenance import commit, versions
from videopolicy.training import checkpoint
from videopolicy.training.saving import save_tensors

KEPT = ("stage", "fps", "labels", "step", "frozen", "seen", "commits")  # of what training knew


@dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    run: Path = Path("runs/demo/joint_para")  # of train_stages/light.py or joint.py, or one of its checkpoints
    output: Path = Path("exported/joint_para")
    overwrite: bool = False  # an export that is there already
    file_mib: int | None = None  # weights in files of at most so many MiB, as hosts of code want them; null: in one

    def __post_init__(self) -> None:
        if self.file_mib is not None and self.file_mib < 1:
            raise BadInput(f"file_mib is {self.file_mib}; allowed: at least 1, or null")


def main(cfg: Config) -> Path:
    print(dump(cfg))
    found = checkpoint.find(cfg.run)
    if cfg.output.exists() and not (cfg.overwrite and exported.is_one(cfg.output)):
        raise BadInput(f"{cfg.output} exists; name another output, or replace an export by --overwrite true")
    policy, config = load(found)
    state = checkpoint.read_state(found)
    if policy.precision == "bf16" and isinstance(policy.backbone, SVDBackbone):  # it acts with no more of them
        keep_low(policy.backbone.unet)
        keep_low(policy.backbone.image_encoder)
    both = nn.ModuleDict({"backbone": policy.backbone, "head": policy.head})  # type: ignore[dict-item]
    weights = {name: exported.stored(value) for name, value in both.state_dict().items()}
    header = 2**16  # of a file, with its tensors' names
    files = exported.in_files(weights, None if cfg.file_mib is None else cfg.file_mib * 2**20 - header)

    def write(new: Path) -> None:
        new.mkdir()
        write_json(new / checkpoint.CONFIG, config)
        for name, part in files.items():
            save_tensors(part, new / name)
            (new / name).chmod((new / checkpoint.CONFIG).stat().st_mode)  # safetensors' are the user's alone
        about = {**about_policy(policy, state), "format": exported.WHOLE if len(files) == 1 else exported.IN_PARTS}
        about["files"] = {name: described(new / name) for name in (*files, checkpoint.CONFIG)}
        (new / exported.CARD).write_text(model_card.written(cfg.output.name, config, about))
        write_json(new / exported.ABOUT, about)
        for file in new.iterdir():
            sync(file)

    with writing(cfg.output, "what was there is as it was", sum(value.nbytes for value in weights.values())):
        replace_folder(cfg.output, write)
    size = sum(f.stat().st_size for f in cfg.output.iterdir())
    print(f"wrote {cfg.output}: {size / 1e6:.1f} MB, step {state['step']} of {cfg.run}")
    return cfg.output


def about_policy(policy: FeaturePolicy, state: dict) -> dict:
    """What of a policy is neither in its weights nor in its configuration, and what it takes and gives."""
    about = {"commit": commit(), "versions": versions()}
    about |= {name: state[name] for name in KEPT if name in state}
    if isinstance(backbone := policy.backbone, SVDBackbone):
        about["video_model"] = pipeline.described(backbone.unet, backbone.vae, backbone.image_encoder)
    width, height = policy.image_size
    return about | {
        "bins": exported.bins(policy.head),
        "image_size": [width, height],
        "n_steps": policy.head.n_steps,
        "period_s": 1 / state["fps"],
        "conventions": exported.CONVENTIONS,
    }


if __name__ == "__main__":
    launch(main, Config)
