"""Clips of a LeRobot dataset with their action labels, as training samples."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch.utils.data import Dataset as TorchDataset

from videopolicy.data.lerobot import Dataset
from videopolicy.data.splits import Select, selected, spread
from videopolicy.data.targets import Waypoints, track_waypoints, waypoints
from videopolicy.data.visibility import check_above, check_pictures
from videopolicy.errors import BadInput
from videopolicy.images import resized


@dataclass(frozen=True)
class DataConfig:
    """Which clips to train on."""

    root: Path = Path("data/left_half")
    select: Select = "all"  # training set of an out-of-distribution axis; validation episodes are taken from it
    n_val_episodes: int = 8  # held out for validation, evenly spread; all views of an event count as one; 0: none
    n_train_episodes: int | None = None  # train on that many of the others, evenly spread; null: on all of them
    subset_seed: int | None = None  # the first of a seeded order instead: fewer are among more; null: evenly spread
    # Pauses: frames that differ by less from the last one kept are left out, as OpenVLA leaves idle steps out of
    # LIBERO's demonstrations (Kim et al. 2024). Root mean square over pixels [grey levels]; 0: every frame is kept.
    min_change: float = 0.0
    cache_gb: float = 4.0  # decoded episodes kept in memory; beyond it, files are decoded again
    overfit: bool = False  # one batch forever

    def __post_init__(self) -> None:
        if not 0 <= self.min_change <= 255:
            raise BadInput(f"data.min_change is {self.min_change}; allowed: 0 to 255")
        if self.subset_seed is not None and self.subset_seed < 0:
            raise BadInput(f"data.subset_seed is {self.subset_seed}; allowed: from 0 on, or null")


@runtime_checkable
class Maps(Protocol):
    """Maps, or any arrays, of an episode's frames, to be indexed by frame numbers."""

    def __getitem__(self, frames: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen ..."]: ...


class ClipDataset(TorchDataset):
    """Every frame of the chosen episodes, with the clip that starts there and the labels of the next waypoints.

    Clips that run past their episode's end hold its last frame; labels there are masked. Of a dataset of tracks the
    labels are pixels alone, and heights, grippers and positions are NaN, also where they are valid. Without pauses
    (`DataConfig.min_change`) an episode is what is left of it, and its frames are numbered anew.
    """

    def __init__(
        self,
        data: Dataset,
        episodes: list[int],
        n_frames: int,
        n_steps: int,
        image_size: tuple[int, int],
        cache_gb: float,
        min_change: float = 0.0,
    ) -> None:
        check_pictures(data, episodes)
        if short := [e for e in episodes if data.length(e) < n_frames]:
            others = f", and {len(short) - 1} others are as short" if len(short) > 1 else ""
            raise BadInput(
                f"episode {short[0]} of {data.root} has {data.length(short[0])} frames{others}; allowed: at least the"
                f" {n_frames} of a clip (n_frames)"
            )
        self.data, self.n_frames, self.n_steps = data, n_frames, n_steps
        if n_frames > 1 and n_steps % (n_frames - 1):
            raise BadInput(f"n_steps is {n_steps}; allowed: multiples of the {n_frames - 1} frames after the first")
        self.stride = n_steps // max(n_frames - 1, 1)  # frame k of a clip shows its waypoint k * stride
        self.image_size = image_size  # frames are resized to what the model sees, and labels are in its pixels
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = int(cache_gb * 2**30)
        self.shown = {  # episode to its frames that are no pauses
            e: np.arange(data.length(e)) if min_change == 0 else changes(self.frames(e), min_change) for e in episodes
        }
        self.n_pictures = n_frames  # of a clip that a sample has
        self.samples = [(e, t) for e in episodes for t in range(len(self.shown[e]) - 1)]
        if not self.samples:
            raise BadInput(
                f"no clips in {data.root}: its {len(episodes)} chosen episodes have at most one frame each"
                + (f" that differs by data.min_change {min_change}" if min_change else "")
            )
        # Name to episode to (frame ...): what training has made of the frames.
        self.maps: dict[str, dict[int, Maps]] = {}

    @property
    def digest(self) -> str:
        """What identifies the dataset that clips are of."""
        return self.data.digest

    @property
    def size(self) -> tuple[int, int]:
        """Of the pictures as they were recorded (width, height)."""
        return self.data.size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        episode, t = self.samples[index]
        kept = self.shown[episode]
        shown = kept[np.minimum(t + self.stride * np.arange(self.n_frames), len(kept) - 1)]
        label = self._label(episode, t)
        numbers = {
            name: torch.from_numpy(getattr(label, name)).float()
            for name in ("start_pixel", "pixel", "height", "gripper", "position")
        }
        use = torch.from_numpy(label.inside & label.in_episode)
        for name in ("pixel",) if self.data.tracked else ("pixel", "height", "gripper", "position"):
            if not numbers[name][use].isfinite().all():  # bins would make a label like any other of it
                raise BadInput(f"episode {episode} of {self.data.root}, frame {t}: a label's {name} is not finite")
        sample = {"frames": torch.from_numpy(self._pictures(episode, shown[: self.n_pictures])), **numbers}
        sample["start_height"] = torch.tensor(label.start_height)
        if label.rotation is not None:
            sample["rotation"] = torch.from_numpy(label.rotation).float()
        sample["valid"] = use
        for name, maps in self.maps.items():
            sample[name] = torch.from_numpy(maps[episode][shown]).float()
        return sample

    def label_statistics(self) -> dict:
        """Ranges of the labels, for bins, and how many waypoints are masked and why.

        Of a dataset of tracks there are no ranges: None.
        """
        if not self.data.tracked:
            check_above(self.data, list(self.shown))
        heights, positions, outside, past_end, start_outside = [], [], 0, 0, 0
        for episode, t in self.samples:
            w = self._label(episode, t)
            use = w.inside & w.in_episode
            heights.append(w.height[use])
            positions.append(w.position[use])
            outside += int((~w.inside & w.in_episode).sum())
            past_end += int((~w.in_episode).sum())
            start_outside += int(np.isnan(w.start_pixel).any())
        height, position = np.concatenate(heights), np.concatenate(positions)
        if len(height) == 0:
            raise BadInput(
                f"no waypoint of {self.data.root} projects into the image, in none of its {len(self.shown)} chosen"
                " episodes; is its camera the one that recorded them?"
            )
        ranges = {
            "height": (float(height.min()), float(height.max())),
            "position_mean": position.mean(0).tolist(),
            "position_std": (position.std(0) + 1e-6).tolist(),
            "position_low": position.min(0).tolist(),
            "position_high": position.max(0).tolist(),
        }
        return {
            **(dict.fromkeys(ranges) if self.data.tracked else ranges),
            "rotation": all(self.data.rotation(e) is not None for e in self.shown),
            "waypoints": len(self.samples) * self.n_steps,
            "outside_image": outside,
            "past_end": past_end,
            "start_outside_image": start_outside,
        }

    def heights(self) -> Float[np.ndarray, " waypoint"]:
        """Of all waypoints that are not masked [m]."""
        labels = [self._label(episode, t) for episode, t in self.samples]
        return np.concatenate([w.height[w.inside & w.in_episode] for w in labels])

    def first_pictures(self) -> "ClipDataset":
        """The same clips, whose samples have their first picture only: all that training needs beside stored maps."""
        clips = copy.copy(self)
        clips.n_pictures = 1
        return clips

    def frames(self, episode: int) -> UInt8[np.ndarray, "frame height width 3"]:
        """An episode's frames at the model's size."""
        if episode in self._cache:
            return self._cache[episode]
        frames = resized(self.data.frames(episode), self.image_size)
        if self._fits(episode):
            self._cache[episode] = frames
        return frames

    def _pictures(self, episode: int, chosen: Int[np.ndarray, " chosen"]) -> UInt8[np.ndarray, "chosen height width 3"]:
        """Some of an episode's frames, of which no others are decoded where memory is not to keep them."""
        if episode in self._cache or self._fits(episode):
            return self.frames(episode)[chosen]
        return resized(self.data.frames(episode, chosen), self.image_size)

    def _fits(self, episode: int) -> bool:
        """Whether the memory for decoded episodes has room for another one."""
        size = 3 * self.image_size[0] * self.image_size[1] * self.data.length(episode)
        return sum(f.nbytes for f in self._cache.values()) + size <= self._cache_bytes

    def _label(self, episode: int, t: int) -> Waypoints:
        kept = self.shown[episode]
        if self.data.tracked:
            scale = np.array(self.image_size) / self.data.size
            return track_waypoints(self.data.track(episode)[kept] * scale, self.image_size, t, self.n_steps)
        camera = self.data.camera_of(episode).resized(self.image_size)
        state, action = self.data.state(episode)[kept], self.data.action(episode)[kept]
        rotation = self.data.rotation(episode)
        return waypoints(state, action, camera, t, self.n_steps, None if rotation is None else rotation[kept])


def open_splits(
    cfg: DataConfig, n_frames: int, n_steps: int, image_size: tuple[int, int]
) -> tuple[Dataset, ClipDataset, ClipDataset]:
    """The dataset, and its training and validation clips; these are the training clips where none are held out."""
    data = Dataset(cfg.root)
    clips = [
        ClipDataset(data, e, n_frames, n_steps, image_size, cfg.cache_gb, cfg.min_change)
        for e in split_episodes(data, cfg)
        if e
    ]
    return data, clips[0], clips[-1]


def split_episodes(data: Dataset, cfg: DataConfig) -> tuple[list[int], list[int]]:
    """Episodes to train on, and episodes held out."""
    groups = _groups(data, cfg.select)
    if not 0 <= cfg.n_val_episodes < len(groups):
        raise BadInput(
            f"data.n_val_episodes is {cfg.n_val_episodes}; allowed: 0 to {len(groups) - 1} of {cfg.root}'s"
            f" {len(groups)} episodes, all views of an event counted as one"
        )
    held_out = {e for g in spread(len(groups), cfg.n_val_episodes) for e in groups[g]}
    others = [g for g in groups if g[0] not in held_out]
    n_train = len(others) if cfg.n_train_episodes is None else cfg.n_train_episodes
    if not 0 < n_train <= len(others):
        raise BadInput(
            f"data.n_train_episodes is {n_train}; allowed: 1 to the {len(others)} episodes of {cfg.root} that are not"
            " held out, all views of an event counted as one"
        )
    if cfg.subset_seed is None:
        chosen = spread(len(others), n_train)
    else:
        chosen = sorted(np.random.default_rng(cfg.subset_seed).permutation(len(others))[:n_train].tolist())
    return [e for i in chosen for e in others[i]], sorted(held_out)


def _groups(data: Dataset, select: Select) -> list[list[int]]:
    """Episodes that show the same events from several cameras belong together: all held out, or none."""
    extras = data.extras()
    if len(extras) not in (0, len(data)):
        raise BadInput(f"{data.root}/meta/para_episodes.jsonl describes {len(extras)} of {len(data)} episodes")
    groups: dict[tuple, list[int]] = {}
    for e, extra in enumerate(extras):
        groups.setdefault((extra.get("block"), extra.get("episode", e)), []).append(e)
    every = list(groups.values()) or [[e] for e in range(len(data))]
    chosen = set(selected(select, extras, len(data), data.root))
    return [kept for group in every if (kept := [e for e in group if e in chosen])]


def changes(frames: UInt8[np.ndarray, "frame height width 3"], least: float) -> Int[np.ndarray, " kept"]:
    """The first frame, and every one that differs from the last one kept by at least `least` grey levels (RMS)."""
    kept = [0]
    for i, frame in enumerate(frames[1:], 1):
        difference = frame.astype(np.float32) - frames[kept[-1]]
        if np.sqrt(np.square(difference).mean()) >= least:
            kept.append(i)
    return np.array(kept)


def batch_indices(n_samples: int, batch_size: int, seed: int, step: int, overfit: bool = False) -> list[int]:
    """The samples of optimizer step `step`: an order that depends on seed and epoch alone, no remainder batches."""
    per_epoch = max(1, n_samples // batch_size)
    epoch, offset = (0, 0) if overfit else divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(n_samples)
    return np.resize(order, max(n_samples, batch_size))[offset * batch_size : (offset + 1) * batch_size].tolist()
