"""What a video model was trained on: a list of clips beside exported weights, the configuration of a run."""

import json
from pathlib import Path

from videopolicy.backbones.pipeline import MANIFEST
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.config import from_dict
from videopolicy.data.dataset import DataConfig, split_episodes
from videopolicy.data.files import read_jsonl
from videopolicy.data.format import read_extras
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint


def write_manifest(cfg: DataConfig, path: Path) -> None:
    """What every clip of a corpus shows, one JSON line each, and whether it was held out."""
    if not read_extras(cfg.root):
        raise BadInput(f"the corpus {cfg.root} that the model was trained on is gone: its manifest cannot be written")
    data = Dataset(cfg.root)
    trained = set(split_episodes(data, cfg)[0])
    rows = ({**_shown(extra), "held_out": e not in trained} for e, extra in enumerate(data.extras()))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def trained_episodes(model: Path, data: Dataset) -> set[int]:
    """Episodes of a dataset that a pipeline folder has seen, as far as it says so, or a stage-one run and its start."""
    if not model.exists():  # a start that is no longer there
        return set()
    if (model / MANIFEST).is_file():
        rows = [row for row in read_jsonl(model / MANIFEST) if not row.get("held_out", False)]
        seen = {json.dumps(_shown(row), sort_keys=True) for row in rows}
        return {e for e, extra in enumerate(data.extras()) if json.dumps(_shown(extra), sort_keys=True) in seen}
    if (model / "model_index.json").is_file():
        return set()
    config = checkpoint.read_config(checkpoint.find(model))
    theirs = from_dict(DataConfig, config["data"])
    same = theirs.root.resolve() == data.root.resolve()
    known: set[int] = set(split_episodes(data, theirs)[0]) if same else set()
    start = from_dict(SVDConfig, config["backbone"])
    if start.weights != "pretrained" or start.pretrained is None:
        return known
    return known | trained_episodes(start.pretrained, data)


def _shown(extra: dict) -> dict:
    return {k: v for k, v in extra.items() if k not in ("camera", "episode_index", "held_out")}
