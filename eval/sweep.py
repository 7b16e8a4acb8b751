"""Which of a video model's features a head reads best: up-blocks, noise level and length of the clip.

python -m eval.sweep --model weights/svd-tiny --blocks "[[1, 2], [2, 3]]" --sigmas "[200, 80]"

For each choice a small head learns from the frozen features of training clips, and is measured on held-out ones.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from eval.probe import Schedule, held_out, probe
from eval.video import open_model, refuse_trained
from videopolicy.backbones.backbone import Pyramid, splat
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.config import dump, launch
from videopolicy.data.dataset import ClipDataset, DataConfig, open_splits
from videopolicy.data.files import make_folder, write_json
from videopolicy.data.format import read_info
from videopolicy.data.splits import spread
from videopolicy.diffusion import SIGMA_MAX, SIGMA_MIN
from videopolicy.errors import BadInput
from videopolicy.progress import Progress

BATCH = 8
LABELS = ("start_pixel", "pixel", "height", "gripper", "position", "valid")


@dataclass(frozen=True)
class Config(Schedule):
    """What is tried: every combination."""

    model: Path = Path("weights/svd-tiny")  # a pipeline folder, or a stage-one run
    data: DataConfig = DataConfig()
    output: Path = Path("runs/sweep")
    blocks: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,), (1, 2), (1, 2, 3))  # sets of up-blocks, 0-based
    sigmas: tuple[float, ...] = (700.0, 200.0, 80.0, 20.0)
    frames: tuple[int, ...] = (7,)  # of a clip; errors are those of the waypoints that all of them have
    grid: int = 24
    image_size: tuple[int, int] = (576, 320)  # (width, height) of pictures for a model that was made for no size
    n_clips: int = 400  # of each combination less than a probe's, as there are many
    n_steps: int = 200


def main(cfg: Config) -> list[dict]:
    """A row for each combination, best first."""
    print(dump(cfg))
    cfg.check()
    for name in ("blocks", "sigmas", "frames"):
        if not getattr(cfg, name):
            raise BadInput(f"{name} is empty; allowed: at least one to try")
    for sigma in cfg.sigmas:
        if not SIGMA_MIN <= sigma <= SIGMA_MAX:
            raise BadInput(f"sigmas has {sigma}; allowed: {SIGMA_MIN} to {SIGMA_MAX:g}")
    if not all(cfg.blocks):
        raise BadInput(f"blocks is {cfg.blocks}; allowed: sets of at least one block")
    if not 0 < cfg.lr < 1:
        raise BadInput(f"lr is {cfg.lr}; allowed: above 0 to 1")
    torch.set_num_threads(cfg.n_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every = tuple(sorted({i for chosen in cfg.blocks for i in chosen}))
    fps = read_info(cfg.data.root)["fps"]
    make_folder(cfg.output)
    rows: list[dict] = []
    for n_frames in cfg.frames:
        fields = {"feature_blocks": every, "grid": cfg.grid, "image_size": cfg.image_size, "n_frames": n_frames}
        model = open_model(cfg.model, fps, **fields).to(device)
        if (made_for := model.cfg.n_frames) != n_frames:
            raise BadInput(f"frames has {n_frames}, but {cfg.model} was made for clips of {made_for}")
        n_levels = len(model.unet.config.block_out_channels)
        if any(not 0 <= i < n_levels for i in every):
            raise BadInput(f"blocks has {every}; allowed: 0 to {n_levels - 1}")
        data, clips, val_clips = open_splits(cfg.data, n_frames, n_frames - 1, model.cfg.image_size)
        refuse_trained(cfg.model, data, val_clips, cfg.data)
        for sigma in cfg.sigmas:
            model.cfg = replace(model.cfg, feature_sigma=sigma, feature_blocks=every)
            about = f"{n_frames} frames, sigma {sigma:g}"
            sets = [read(model, c, n, about) for c, n in ((clips, cfg.n_clips), (val_clips, cfg.n_val))]
            for chosen in cfg.blocks:
                parts = [(dense(model, levels, labels, chosen, cfg), labels) for levels, labels in sets]
                found = probe(cfg, clips, parts, data, held_out(val_clips, cfg.n_val), min(cfg.frames) - 1)
                rows.append({"blocks": list(chosen), "sigma": sigma, "frames": n_frames, **found})
                print(f"\nblocks {list(chosen)}, {about}: {found['position_mm']:.1f} mm, {found['pixel']:.2f} px")
    rows.sort(key=lambda row: row["position_mm"])
    counts = {"n_clips": min(cfg.n_clips, len(clips)), "n_val": min(cfg.n_val, len(val_clips)), "n_steps": cfg.n_steps}
    summary = {"model": str(cfg.model), "data": str(cfg.data.root), **counts, "rows": rows}
    write_json(cfg.output / "sweep.json", summary)
    (cfg.output / "sweep.md").write_text(table(rows))
    print(table(rows) + f"table: {cfg.output / 'sweep.md'}")
    return rows


@torch.inference_mode()
def read(model: SVDBackbone, clips: ClipDataset, n: int, about: str) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
    """Up-blocks' outputs (clip frame channel row col) for the future frames of `n` clips, and their labels."""
    chosen, found, labels = spread(len(clips), n), [], []
    progress = Progress(f"features, {about}", len(chosen), 0)
    for i in range(0, len(chosen), BATCH):
        batch = torch.utils.data.default_collate([clips[j] for j in chosen[i : i + BATCH]])
        device = model.feature_noise.device
        levels = model.forward(batch["frames"][:, 0].to(device), batch["start_pixel"].to(device)).levels
        found.append([x.half().cpu() for x in levels])
        labels.append({k: batch[k] for k in LABELS})
        progress.update(min(i + BATCH, len(chosen)), "")
    progress.close()
    whole = {b: torch.cat([x[i] for x in found]) for i, b in enumerate(model.cfg.feature_blocks)}
    return whole, {k: torch.cat([part[k] for part in labels]) for k in LABELS}


def dense(
    model: SVDBackbone, levels: dict[int, Tensor], labels: dict[str, Tensor], chosen: tuple[int, ...], cfg: Config
) -> Tensor:
    """Features of some of the blocks on the head's grid, the start keypoint marked."""
    mine, n_clips = tuple(levels[i] for i in chosen), len(labels["valid"])
    mark = torch.randn(sum(x.shape[2] for x in mine), generator=torch.Generator().manual_seed(cfg.seed))
    parts = []
    for i in range(0, n_clips, BATCH):
        start = splat(labels["start_pixel"][i : i + BATCH], model.cfg.image_size, cfg.grid, cfg.grid)
        parts.append(Pyramid(tuple(x[i : i + BATCH] for x in mine), start, mark).dense.half())
    return torch.cat(parts)


def table(rows: list[dict]) -> str:
    """In Markdown, errors of held-out clips."""
    lines = ["| up-blocks | sigma | frames | error [mm] | median [mm] | pixels | gripper right [%] |", "|" + "---|" * 7]
    for row in rows:
        blocks = ", ".join(map(str, row["blocks"]))
        errors = f"{row['position_mm']:.1f} | {row['position_median_mm']:.1f} | {row['pixel']:.2f}"
        right = 100 * row["gripper_accuracy"]
        lines.append(f"| {blocks} | {row['sigma']:g} | {row['frames']} | {errors} | {right:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    launch(main, Config)
