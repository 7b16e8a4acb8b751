"""What a frozen network makes of a dataset's frames, once: latents, embeddings, features to learn from.

<dataset>/<kind>/<what made it>/episode_NNNNNN_<its video's digest>.npy   (frame ...), half precision

Of a video that holds several episodes, also where in it the episode begins [ms].
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import make_folder, replace
from videopolicy.errors import BadInput
from videopolicy.progress import Progress

Encode = Callable[[UInt8[Tensor, "frame height width 3"]], Float[Tensor, "frame ..."]]


@torch.no_grad()
def attach(kind: str, made_by: str, encode: Encode, accelerator: Accelerator, datasets: list[ClipDataset]) -> int:
    """Give clips what is made of their frames, making that of episodes that have none on disk yet; how many had none.

    Processes share the work. Files are read a clip at a time: a corpus is larger than some laptops' memory. Another
    video under the same number has another file; one that it replaces is removed.
    """
    wanted = [(clips, episode) for clips in datasets for episode in sorted({e for e, _ in clips.samples})]
    folder = datasets[0].data.root / kind / made_by
    make_folder(folder)
    paths = [folder / _name(clips, episode) for clips, episode in wanted]
    missing = len({p for p in paths if not p.is_file()})
    accelerator.wait_for_everyone()  # before any of them is made
    progress = Progress(kind, len(wanted), 0)
    rank, world = accelerator.process_index, accelerator.num_processes
    for number, ((clips, episode), path) in enumerate(zip(wanted, paths, strict=True)):
        if number % world == rank and not path.is_file():
            frames = torch.from_numpy(clips.frames(episode)).to(accelerator.device)
            values = encode(frames).half().cpu().numpy()
            replace(path, partial(_write, values=values))
            for old in set(folder.glob(f"episode_{episode:06d}*.npy")) - {path}:
                old.unlink()
            if number % 16 == 0:
                progress.update(number + 1, "")
    progress.close()
    accelerator.wait_for_everyone()
    for (clips, episode), path in zip(wanted, paths, strict=True):
        maps = StoredMaps(path)
        maps.check(clips.data.length(episode))
        clips.maps.setdefault(kind, {})[episode] = maps
    return missing


def _name(clips: ClipDataset, episode: int) -> str:
    start = clips.data.start(episode)
    at = "" if start is None else f"_{round(1000 * start)}"
    return f"episode_{episode:06d}_{digest(clips.data.video(episode))}{at}.npy"


def digest(video: Path) -> str:
    """What identifies a video file's contents; read once for all that is made of it."""
    about = video.stat()
    return _digest(video, about.st_size, about.st_mtime_ns)


@cache
def _digest(video: Path, _size: int, _changed: int) -> str:
    with video.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _write(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(values))  # frame after frame, as they are read


@dataclass(frozen=True)
class StoredMaps:
    """An episode's maps on disk. Not kept open: a corpus has more files than a process may hold."""

    path: Path

    def check(self, n_frames: int) -> None:
        """`BadInput` where the file is damaged, or not of an episode of `n_frames`."""
        try:
            stored = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if not stored.flags.c_contiguous:
                raise ValueError("its frames do not lie one after another")
            found = len(stored)
        except (ValueError, EOFError) as error:
            raise BadInput(f"{self.path} is damaged: {error}; remove it, it will be made again") from error
        except OSError as error:
            raise BadInput(f"cannot read {self.path}: {error}") from error
        if found != n_frames:
            raise BadInput(
                f"{self.path} holds {found} frames, its episode {n_frames}; remove it, it will be made again"
            )

    @cached_property
    def _layout(self) -> tuple[int, tuple[int, ...], np.dtype]:
        """Where the first frame begins, a frame's shape and its type: read once, it costs more than the frames."""
        stored = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return stored.offset, stored.shape[1:], stored.dtype

    def __getitem__(self, frames: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen ..."]:
        begin, shape, kind = self._layout
        values = np.empty((len(frames), *shape), kind)
        with self.path.open("rb", buffering=0) as file:  # a mapping's page faults cost more than these reads
            for frame, value in zip(frames, values, strict=True):
                file.seek(begin + int(frame) * value.nbytes)
                if file.readinto(value.reshape(-1)) != value.nbytes:
                    raise BadInput(f"{self.path} ends before frame {frame}; remove it, it will be made again")
        return values
