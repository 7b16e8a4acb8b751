"""What reading a cached clip costs beside decoding it: seven frames of 576 x 320, as a training step of SVD wants them.

python -m bench.cache [--json FILE]

One thread; medians of interleaved repeats, a random place of the video in each.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.figures import reserve
from videopolicy.config import guarded
from videopolicy.data.files import write_json
from videopolicy.data.video import read_video, write_video
from videopolicy.training.cache import StoredMaps

WIDTH, HEIGHT, N_FRAMES, CLIP = 576, 320, 120, 7


def make(folder: Path) -> tuple[Path, list[StoredMaps]]:
    """A video of something that moves before something still, with a camera's noise; and what is cached of it."""
    rng = np.random.default_rng(0)
    behind = rng.integers(0, 255, (HEIGHT // 32, WIDTH // 32, 3)).repeat(32, 0).repeat(32, 1)
    frames = np.repeat(behind[None], N_FRAMES, 0).astype(np.float32)
    for i, frame in enumerate(frames):
        u = 4 * i % (WIDTH - 64)
        frame[100:200, u : u + 64] = (200, 120, 40)
    frames += rng.normal(0, 3, frames.shape)
    write_video(folder / "clip.mp4", frames.clip(0, 255).astype(np.uint8), 7)
    shapes = {"posterior": (8, HEIGHT // 8, WIDTH // 8), "embeddings": (1024,)}
    for name, shape in shapes.items():
        np.save(folder / f"{name}.npy", rng.normal(size=(N_FRAMES, *shape)).astype(np.float16))
    return folder / "clip.mp4", [StoredMaps(folder / f"{name}.npy") for name in shapes]


def measure(repeats: int) -> dict[str, float]:
    """Seconds of either."""
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {"decode": [], "read": []}
    with tempfile.TemporaryDirectory() as folder:
        video, maps = make(Path(folder))
        for i in range(repeats + 1):
            chosen = rng.integers(0, N_FRAMES - CLIP) + np.arange(CLIP)
            began = time.perf_counter()
            torch.from_numpy(read_video(video, N_FRAMES, chosen))
            between = time.perf_counter()
            for m in maps:
                torch.from_numpy(m[chosen]).float()
            ended = time.perf_counter()
            if i:
                times["decode"].append(between - began)
                times["read"].append(ended - between)
    return {name: float(np.median(t)) for name, t in times.items()}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--repeats", type=int, default=20, help="interleaved repeats, at least 5")
    args = parser.parse_args(arguments)
    reserve(args.json)
    if args.repeats < 5:
        parser.error(f"--repeats is {args.repeats}; allowed: at least 5")
    torch.set_num_threads(1)
    found = measure(args.repeats)
    found["ratio"] = found["decode"] / found["read"]
    print(
        f"cached clip          {found['ratio']:.0f}x faster read ({1e3 * found['decode']:.1f} ms decoded,"
        f" {1e3 * found['read']:.2f} ms read)"
    )
    if args.json:
        write_json(args.json, found)
    return found


if __name__ == "__main__":
    guarded(main)
