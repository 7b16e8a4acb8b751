"""Clips of several datasets, each so often: demonstrations beside circles of other arms, or tracked videos."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from videopolicy.data.dataset import ClipDataset, DataConfig
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput

Clip = tuple[str, int, int]  # of which dataset, its episode and frame


class Mixture(TorchDataset):
    """For each clip of the first dataset, `weight` clips of each other one: evenly spread over it, or over and over.

    An epoch is every clip of the first one once. Samples hold rotations where all sources do.
    """

    def __init__(self, sources: list[tuple[ClipDataset, float]]) -> None:
        self.sources = [clips for clips, _ in sources]
        first = self.sources[0]
        self.n_frames, self.size = first.n_frames, first.size
        counts = [max(1, round(weight * len(first))) for _, weight in sources]
        self._places = [(k, i) for k, n in enumerate(counts) for i in _spread(len(self.sources[k]), n)]
        self._rotations = all(c.data.rotation(e) is not None for c in self.sources for e in c.shown)
        self.samples: list[Clip] = [
            (str(self.sources[k].data.root), *self.sources[k].samples[i]) for k, i in self._places
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        k, i = self._places[index]
        sample = self.sources[k][i]
        return {name: value for name, value in sample.items() if name != "rotation" or self._rotations}

    @property
    def digest(self) -> str:
        """Of all sources."""
        return "+".join(clips.digest for clips in self.sources)

    def label_statistics(self) -> dict:
        """Of all sources' labels: ranges of all together, means by how many clips of each are shown.

        Numbers of waypoints count each clip once.
        """
        found = [clips.label_statistics() for clips in self.sources]
        shown = np.bincount([k for k, _ in self._places], minlength=len(found))
        numbers = ("waypoints", "outside_image", "past_end", "start_outside_image")
        merged: dict[str, Any] = {name: sum(f[name] for f in found) for name in numbers} | {"rotation": self._rotations}
        if any(f["height"] is None for f in found):
            return merged | dict.fromkeys(name for name in found[0] if name == "height" or name.startswith("position_"))
        share = shown / shown.sum()
        mean, std = (np.array([f[f"position_{name}"] for f in found]) for name in ("mean", "std"))
        pooled = share @ mean
        spread = np.sqrt(share @ (std**2 + (mean - pooled) ** 2))
        low, high = zip(*(f["height"] for f in found), strict=True)
        return merged | {
            "height": (min(low), max(high)),
            "position_mean": pooled.tolist(),
            "position_std": spread.tolist(),
            "position_low": np.min([f["position_low"] for f in found], 0).tolist(),
            "position_high": np.max([f["position_high"] for f in found], 0).tolist(),
        }


def seen(cfg: DataConfig, clips: ClipDataset | Mixture) -> list[dict[str, Any]]:
    """What is trained on, for evaluations that must not test on it: datasets, what was selected, whether on a grid."""
    sources = clips.sources if isinstance(clips, Mixture) else [clips]
    return [
        {
            "root": str(each.data.root),
            "select": "all" if i else cfg.select,
            "positions": any("row" in extra or "bowl_xy" in extra for extra in each.data.extras()),
        }
        for i, each in enumerate(sources)
    ]


def _spread(total: int, n: int) -> list[int]:
    """`n` of `total` indices: each as often as any other, or once more; evenly spread."""
    whole, rest = divmod(n, total)
    return [*(list(range(total)) * whole), *(np.arange(rest) * total // max(rest, 1)).tolist()]


def open_mixture(cfg: DataConfig, mix: dict[str, float], clips: ClipDataset) -> ClipDataset | Mixture:
    """`clips`, which `cfg` chose, mixed with all episodes of other datasets; themselves where there are none.

    `mix` is from a dataset's folder to its weight. `BadInput` for weights that are none, for a dataset that is there
    already, whose held out episodes would be trained on, and for one at another rate.
    """
    if not mix:
        return clips
    sources = [(clips, 1.0)]
    for root, weight in mix.items():
        if not 0 < weight <= 100:
            raise BadInput(f"mix has weight {weight} for {root}; allowed: above 0 to 100")
        data = Dataset(Path(root))
        if any(data.digest == source.digest for source, _ in sources):
            raise BadInput(f"mix has {root}, which is among what is trained on already; allowed: other datasets")
        if data.fps != clips.data.fps:
            raise BadInput(f"mix has {root} at {data.fps} fps; allowed: {clips.data.fps}, that of {clips.data.root}")
        every = list(range(len(data)))
        more = ClipDataset(data, every, clips.n_frames, clips.n_steps, clips.image_size, cfg.cache_gb, cfg.min_change)
        sources.append((more, weight))
    return Mixture(sources)
