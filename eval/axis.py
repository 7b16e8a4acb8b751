"""What was rolled out on the axes, as a report reads it."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from eval.episodes import read_episodes
from eval.suites import SPLITS, TRAINED_ON, Split
from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import selected
from videopolicy.errors import BadInput, choices
from videopolicy.training import checkpoint

TITLES = {
    "left_right": "Left → right: trained on the left half of the table, tested on the right",
    "near_far": "Near → far: trained near the robot, tested far from it",
    "viewpoint": "Default → all viewpoints: trained with one camera, tested with 57",
    "hemisphere": "Hemisphere: trained with cameras on one side, tested on the other",
    "distractors": "Distractors: trained on a clear table, tested among LIBERO's objects and furniture",
    "distractors_one_bowl": "Distractors without the second, identical bowl",
    "corners_32": "32 demonstrations in the corners, tested elsewhere",
    "dense_64": "64 demonstrations spread over the table, tested elsewhere",
}


@dataclass
class Axis:
    """Everything rolled out on one axis with one executor."""

    name: Split
    executor: str
    folder: Path
    runs: dict[str, str]  # policy to its training run
    records: list[dict] = field(default_factory=list)

    @property
    def policies(self) -> list[str]:
        return [name for name in self.runs if self.of(name)]

    def of(self, policy: str) -> list[dict]:
        return [r for r in self.records if r["policy"] == policy]

    def trained_on(self) -> list[dict] | None:
        """What the dataset says of each demonstration that belongs to the axis; None where it is gone."""
        for run in self.runs.values():
            if Path(run).is_dir():
                data = checkpoint.read_config(checkpoint.find(Path(run)))["data"]
                if (dataset := open_dataset(data["root"])) is None:
                    continue
                extras = dataset.extras()
                chosen = selected(TRAINED_ON.get(self.name, data["select"]), extras, len(dataset), dataset.root)
                return [extras[e] for e in chosen]
        return None


def open_axes(root: Path) -> list[Axis]:
    """The axes rolled out under `root/rollout/`, in the suite's order, the teleport servo before plain control."""
    found: dict[tuple[str, str], Axis] = {}
    for folder in sorted((root / "rollout").glob("*/")):
        records = read_episodes(folder)
        if not records:
            continue
        if not (folder / "config.yaml").is_file():
            raise BadInput(f"{folder} has episodes but no config.yaml, which names their policies and their executor")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        if strangers := sorted({r["policy"] for r in records} - {*config["policies"], "oracle"}):
            raise BadInput(
                f"{folder}/episodes.jsonl has {strangers}; allowed: config.yaml's {list(config['policies'])}"
            )
        for split in dict.fromkeys(r["split"] for r in records):
            if split not in SPLITS:
                raise choices(f"{folder}'s split", split, SPLITS)
            key = (split, config["executor"])
            if key in found:
                raise BadInput(f"{folder} and {found[key].folder} both hold {split} with executor {key[1]}")
            mine = [r for r in records if r["split"] == split]
            found[key] = Axis(split, config["executor"], folder, config["policies"], mine)
    if not found:
        raise BadInput(f"no finished episodes under {root}/rollout/*/episodes.jsonl; run eval.rollout first")
    order = {name: i for i, name in enumerate((*TITLES, *SPLITS))}
    return sorted(found.values(), key=lambda axis: (axis.executor != "teleport", order[axis.name]))


@cache
def open_dataset(root: str) -> Dataset | None:
    """The dataset that policies were trained on; None where it is gone."""
    return Dataset(Path(root)) if (Path(root) / "meta/info.json").is_file() else None
