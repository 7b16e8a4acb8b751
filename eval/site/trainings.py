"""A training run on the site: its losses as curves, what it dreamt beside what happened, and where its head looks."""

import io
import re
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.site.found import METRICS, Found
from eval.site.media import Media, slug
from eval.site.suites import date
from videopolicy.data.files import read_jsonl
from videopolicy.data.splits import spread
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

# What a line of metrics says beside losses.
NO_LOSS = {"step", "seconds", "wait_share", "samples_per_second", "peak_memory_gib", "tflop_per_second"}
NO_LOSS |= {"gflop_per_sample", "grad_norm"}
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))  # lines differ in black and white
N_EARLIER = 3  # previews beside the newest
WORDS = {
    "clips_video": "What happened, and what was generated from its first frame alone; of a policy also its heatmaps",
    "clips": "Real clips above generated ones, frame by frame",
    "step": "Held-out episodes: a heatmap for each step, the true pixel green, the predicted one blue",
}


@dataclass(frozen=True)
class TrainingPage:
    name: str
    file: str
    facts: list[tuple[str, str]]
    losses: str | None  # a picture
    previews: list[tuple[str, str, list[tuple[str, str]]]]  # (words, kind, [(step, file)]), the newest first
    config: str
    last: dict[str, float]  # of validation


def page_of(run: Path, found: Found, media: Media) -> TrainingPage | None:
    """None, and a problem noted, where its metrics cannot be read."""
    with found.noting(run):
        lines = read_jsonl(run / METRICS)
        if not lines:
            raise BadInput(f"{run / METRICS} is empty: no step has been trained")
        last: dict = {}
        for line in lines:
            last |= line
        there = checkpoint.steps(run)
        state = checkpoint.read_state(there[-1]) if there else {}
        config = run / "config.yaml"
        facts = [
            ("steps", f"{last['step'] + 1}"),
            ("minutes", f"{last['seconds'] / 60:.1f}" if "seconds" in last else "unknown"),
            ("samples a second", f"{last['samples_per_second']:.1f}" if "samples_per_second" in last else "unknown"),
            ("peak memory [GiB]", f"{last['peak_memory_gib']:.1f}" if "peak_memory_gib" in last else "unknown"),
            ("trained at commit", ", ".join(state.get("commits", [])) or "unknown"),
            ("newest checkpoint", there[-1].name if there else "none"),
            ("last written", date((run / METRICS).stat().st_mtime)),
        ]
        name = found.name(run)
        return TrainingPage(
            name,
            f"training-{slug(name)}.html",
            facts,
            curves(lines, media, slug(name)),
            [each for kind in ("clips_video", "clips", "step") if (each := _previews(run, kind, media))],
            config.read_text() if config.is_file() else "",
            {k.removeprefix("val/"): v for k, v in last.items() if k.startswith("val/") and k.count("/") == 1},
        )
    return None


def _previews(run: Path, kind: str, media: Media) -> tuple[str, str, list[tuple[str, str]]] | None:
    stem, suffix = ("clips", "mp4") if kind == "clips_video" else (kind, "png")
    files = sorted((run / "previews").glob(f"{stem}_*.{suffix}"))
    chosen = [*[files[i] for i in spread(len(files) - 1, N_EARLIER)], files[-1]] if files else []
    shown = [(re.sub(r"\D+0*(?=\d)", "", path.stem), media.add(path)) for path in dict.fromkeys(reversed(chosen))]
    return (WORDS[kind], "video" if suffix == "mp4" else "img", shown) if shown else None


def curves(lines: list[dict], media: Media, name: str) -> str | None:
    """Losses of training, and what validation says in millimetres, in pixels and otherwise; None without any."""
    keys = list(dict.fromkeys(k for line in lines for k in line if isinstance(line[k], int | float)))
    valid = [k for k in keys if k.startswith("val/") and not k.startswith("val/leak")]
    panels = {
        "loss in training": [k for k in keys if "/" not in k and k not in NO_LOSS],
        "held out [mm]": [k for k in valid if k.endswith("_mm")],
        "held out, loss by noise level": [k for k in valid if k.startswith("val/diffusion")],
        "held out, PSNR [dB]": [k for k in valid if "psnr" in k],
    }
    panels = {title: its for title, its in panels.items() if its}
    if not panels:
        return None
    figure = Figure(figsize=(4.2 * len(panels), 3.1), layout="constrained")
    for each, (title, its) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _panel(each, title, {key: [(m["step"], m[key]) for m in lines if key in m] for key in its})
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": name}):  # the same curves are the same file
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return media.write(buffer.getvalue(), f"losses-{name}", ".svg")


def _panel(axes: Axes, title: str, lines: dict[str, list[tuple[int, float]]]) -> None:
    for (key, points), style in zip(lines.items(), cycle(STYLES), strict=False):
        few = len(points) < 20
        axes.plot(*zip(*points, strict=True), linestyle=style, marker="o" if few else None, ms=3, lw=1.2, label=key)
    values = [value for points in lines.values() for _, value in points]
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)
