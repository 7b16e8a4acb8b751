"""Which command makes a dataset of this project's own, told to whoever has not made it yet."""

import os
from pathlib import Path

MADE_BY = {
    "data/left_half": "python -m eval.collect --config_path configs/demo/collect.yaml",
    "data/grid": "python -m eval.collect --config_path configs/ood/grid.yaml",
    "data/views": "python -m eval.collect --config_path configs/ood/views.yaml",
    "data/circles": "python -m eval.collect --config_path configs/fewshot/circles.yaml",
    "data/corpus": "python -m eval.collect --config_path configs/pretrain/corpus.yaml",
    "data/libero_object_6": "python -m eval.collect --config_path configs/tasks/collect.yaml",
    "data/debug": "python -m eval.collect --config_path configs/debug/collect.yaml",
    "data/debug_corpus": "python -m eval.collect --config_path configs/debug/corpus.yaml",
    "data/demo_robot": "make demo-robot",
}


def origin(root: Path) -> str:
    """The end of a sentence that says that `root` is not there; empty where nothing of ours makes it."""
    command = MADE_BY.get(os.path.relpath(root))
    return f"; this makes it: {command}" if command else ""
