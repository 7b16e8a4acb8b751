"""What exactness without full-resolution maps saves: the pixel-aligned head against its naive form, in one run.

python -m bench.heads [--json FILE] [--check]

`--json` writes `rows` of `name`, `memory_ratio` and `time_ratio`: of `factored_loss`, `volume_loss`, `volume_argmax`
and `levels_embedding` naive over ours, of `step_share_factored` and `step_share_volume` head over backbone. `--check`
ends with status 1 where a goal (`GOALS`, printed beside each ratio) is missed.

One image, 28 x 28 features, 448 x 448 supervision, 12 steps, 32 bins, one thread. Time: medians of interleaved
repeats. Memory: growth of the peak resident set in a process of its own.
"""

import argparse
import ctypes
import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from bench import naive
from bench.figures import reserve
from videopolicy.backbones.backbone import FeatureMap, Pyramid
from videopolicy.backbones.image import ImageBackbone, ImageConfig
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.config import guarded
from videopolicy.data.files import write_json
from videopolicy.heads import upsampled
from videopolicy.heads.argmax import argmax
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead, ParaPrediction

M_MMAP_THRESHOLD = -3  # of glibc's mallopt(3)
N_STEPS, CHANNELS = 12, 384  # ViT-S/16's
SVD_LEVELS = ((1280, 20, 36), (640, 40, 72))  # channels, rows, columns
GOALS: dict[str, tuple[float | None, float]] = {  # of a row: the least memory and time saved; of a share, the most time
    "factored_loss": (100.0, 100.0),
    "volume_loss": (60.0, 4.0),
    "volume_argmax": (None, 20.0),
    "levels_embedding": (None, 2.5),
    "step_share_factored": (None, 0.02),
    "step_share_volume": (None, 0.05),
}
ROWS = tuple(GOALS)
DOWN = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.2], [0, 0, 0, 1]])  # from above, all pixels can be lifted
CAMERA = Camera(np.array([[540.8, 0, 224], [0, 540.8, 224], [0, 0, 1.0]]), DOWN, (448, 448))


Forms = dict[str, Callable[[], object]]


def forms(row: str, cells: int = 28) -> Forms:
    """The two computations of a row, for `cells` x `cells` features of 16 x 16 pixels each."""
    torch.manual_seed(0)
    size = (16 * cells, 16 * cells)
    if row.startswith("step_share"):
        return share_forms("joint" if row.endswith("volume") else "factored", cells, size)
    if row == "levels_embedding":
        return level_forms(cells)
    draw = torch.Generator().manual_seed(1)
    pixel = torch.rand(1, N_STEPS, 2, generator=draw) * size[0]
    if row == "volume_argmax":
        logits = 3 * torch.randn(1, N_STEPS, 32, cells, cells)
        return {"naive": lambda: naive.argmax(logits, size), "ours": lambda: argmax(logits, size)}
    # From the features that the last, linear layer sees, as wide as the backbone's: what stands before is in both.
    hidden = torch.randn(1, 1, CHANNELS, cells, cells, requires_grad=True)
    if row == "volume_loss":
        head = make_head("joint", CHANNELS, cells, size)
        index = torch.randint(0, 32, (1, N_STEPS), generator=draw)

        def volume() -> Tensor:
            return rearrange(head.volume(hidden[:, 0]), "b (n k) h w -> b n k h w", n=N_STEPS)

        return {
            "naive": lambda: naive.volume_loss(volume(), index, pixel, size).mean().backward(),
            "ours": lambda: upsampled.volume_cross_entropy(volume(), index, pixel, size).mean().backward(),
        }
    head = make_head("factored", CHANNELS, cells, size)
    height, gripper = (torch.rand(1, N_STEPS, generator=draw) * scale for scale in (0.3, 1.0))
    valid = torch.ones(1, N_STEPS, dtype=torch.bool)
    targets = Targets(pixel, height, gripper, torch.zeros(1, N_STEPS, 3), valid)

    def total(losses: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(losses.values())).sum()

    def ours() -> None:
        heatmaps = rearrange(head.volume(hidden[:, 0]), "b n h w -> b n 1 h w")
        total(head.loss(ParaPrediction(heatmaps, hidden), targets)).backward()

    return {"naive": lambda: total(naive.loss(head, hidden, targets)).backward(), "ours": ours}


def level_forms(cells: int) -> Forms:
    """SVD's up-blocks 1 and 2 at 576 x 320, a frame's, to 64 channels of 64 x 64 cells: resized or mapped first."""
    grid, embedding = (64 * cells // 28, 64 * cells // 28), Embedding(1920, 64).eval()
    levels = tuple(torch.randn(1, 1, n, rows * cells // 28, cols * cells // 28) for n, rows, cols in SVD_LEVELS)
    start, mark = torch.zeros(1, 1, *grid), torch.randn(1920)

    @torch.inference_mode()
    def naive() -> object:
        return embedding(FeatureMap(Pyramid(levels, start, mark).dense))

    @torch.inference_mode()
    def ours() -> object:
        return embedding(Pyramid(levels, start, mark))

    return {"naive": naive, "ours": ours}


def share_forms(kind: str, cells: int, size: tuple[int, int]) -> Forms:
    """A policy step's backbone, and what its head adds: forward, argmax, refinement and lifting."""
    backbone = ImageBackbone(ImageConfig("dinov3_vits16", "random", size)).eval()
    head = make_head(kind, ParaConfig().width, cells, size)
    image, start = torch.zeros(1, *size, 3, dtype=torch.uint8), torch.tensor([[20.0, 10.0]])
    camera = CAMERA.resized(size)
    with torch.inference_mode():
        features = backbone(image, start)

    @torch.inference_mode()
    def act() -> object:
        return head.decode(head(features), [camera])

    @torch.inference_mode()
    def look() -> object:
        return backbone(image, start)

    return {"backbone": look, "head": act}


def make_head(kind: str, width: int, cells: int, size: tuple[int, int]) -> ParaHead:
    cfg = ParaConfig(volume_loss="joint" if kind == "joint" else "factored", width=width)
    return ParaHead(cfg, CHANNELS, 1, N_STEPS, (cells, cells), size, Bins(-0.02, 0.33, 32), 0.2).eval()


def seconds(row: str, repeats: int) -> dict[str, list[float]]:
    """Wall time of each form, one after the other, `repeats` times after a warm-up."""
    both = forms(row)
    times: dict[str, list[float]] = {name: [] for name in both}
    for i in range(repeats + 1):
        for name, compute in both.items():
            began = time.perf_counter()
            compute()
            if i:
                times[name].append(time.perf_counter() - began)
    return times


def peaks(row: str, names: Iterable[str]) -> dict[str, int]:
    """Growth of the peak resident set [bytes] while each form is computed in a fresh process, two side by side."""
    fresh = multiprocessing.get_context("forkserver")
    # Libraries are imported once, by the process that these are forked from.
    fresh.set_forkserver_preload(["bench.naive", "videopolicy.backbones.image", "videopolicy.heads.para"])
    with ProcessPoolExecutor(2, fresh, max_tasks_per_child=1) as pool:
        found = dict(zip(names, pool.map(partial(peak_bytes, row), names), strict=True))
    if min(found.values()) <= 0:
        raise RuntimeError(f"the peak memory of {row} did not grow by anything: it cannot be compared ({found})")
    return found


def peak_bytes(row: str, form: str) -> int:
    """In a process of its own."""
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 32768)  # what is freed is given back at once
    forms(row, 4)[form]()  # what libraries load and compile at first use is no part of it
    compute = forms(row)[form]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    compute()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return 1024 * int(line.split()[1])


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats, at least 5")
    parser.add_argument("--check", action="store_true", help="end with status 1 where a goal is missed")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    args = parser.parse_args(arguments)
    reserve(args.json)
    if args.repeats < 5:
        parser.error(f"--repeats is {args.repeats}; allowed: at least 5")
    torch.set_num_threads(1)
    rows = []
    for row in args.rows:
        times = {name: float(np.median(t)) for name, t in seconds(row, args.repeats).items()}
        memory = peaks(row, times)
        (slow, fast), share = times, row.startswith("step_share")
        top, bottom = (fast, slow) if share else (slow, fast)
        entry = {
            "name": row,
            "memory_ratio": memory[top] / memory[bottom],
            "time_ratio": times[top] / times[bottom],
        }
        rows.append(entry)
        details = ", ".join(f"{n} {1000 * times[n]:.1f} ms {memory[n] / 2**20:.1f} MiB" for n in times)
        form = "{:.1%} of time, {:.1%} of memory" if share else "{:.0f}x faster, {:.0f}x less memory"
        found = form.format(entry["time_ratio"], entry["memory_ratio"])
        print(f"{row:<20} {found:<36} {goal(entry):<44} ({details})", flush=True)
    if args.json:
        write_json(args.json, {"rows": rows})
    if args.check and (behind := [row["name"] for row in rows if missed(row)]):
        raise SystemExit(f"goals missed: {', '.join(behind)}")
    return rows


def missed(row: dict) -> bool:
    """Whether a row is short of its goal."""
    memory, seconds = GOALS[row["name"]]
    if row["name"].startswith("step_share"):
        return row["time_ratio"] > seconds
    return row["time_ratio"] < seconds or (memory is not None and row["memory_ratio"] < memory)


def goal(row: dict) -> str:
    """A row's goal in words."""
    memory, seconds = GOALS[row["name"]]
    if row["name"].startswith("step_share"):
        words = f"at most {seconds:.0%} of time"
    else:
        words = f"{seconds:g}x faster" + (f", {memory:g}x less memory" if memory is not None else "")
    return f"goal {words}: {'missed' if missed(row) else 'met'}"


if __name__ == "__main__":
    guarded(main)
