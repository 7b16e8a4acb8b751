"""Figures of a report, as pictures embedded in its page."""

import base64
import io
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.episodes import video_file
from eval.positions import X_RANGE, Y_RANGE
from videopolicy.data.video import read_video, write_video
from videopolicy.names import label
from videopolicy.rates import wilson95
from videopolicy.viz.draw import labelled_grid

COLOURS = {"para": "#1b7f4d", "regression": "#b5472f", "para+camera": "#7cc29b", "regression+camera": "#e0a090"}
OTHERS = ("#3b5fa0", "#8a6fb0", "#a07800", "#4f9db8", "#777777")  # of policies by other names, in turn
MARKERS = "osD^vPX*"  # of policies in turn: on paper colours are all one
SHARE = "YlGn"  # from none placed to all: as dark as it is green


def embed_figure(figure: Figure) -> str:
    """The figure as a data URI; closes it."""
    for axes in figure.axes:
        if "top" in axes.spines:
            axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def embed_file(path: Path, kind: str) -> str:
    return f"data:{kind};base64," + base64.b64encode(path.read_bytes()).decode()


def rate_figure(
    records: list[dict], policies: list[str], group: Callable[[dict], float], labels: dict[float, str], xlabel: str
) -> str:
    """Place rate of each policy over groups of episodes, with Wilson intervals and k/n."""
    figure, axes = plt.subplots(figsize=(1.5 + 0.95 * len(labels), 3))
    groups = sorted(labels)
    colours = _colours(policies)
    for number, policy in enumerate(policies):
        shift = 0.16 * (number - (len(policies) - 1) / 2)
        first = True
        for x, value in enumerate(groups):
            placed = [r["outcome"] == "place" for r in records if r["policy"] == policy and group(r) == value]
            if placed:
                name = label(policy) if first else None
                _point(
                    axes, x + shift, sum(placed), len(placed), (colours[policy], MARKERS[number % len(MARKERS)]), name
                )
                axes.annotate(
                    f"{sum(placed)}/{len(placed)}",
                    (x, -0.17 - 0.06 * number),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    fontsize=6.5,
                    color=colours[policy],
                )
                first = False
    axes.set_xticks(range(len(groups)), [labels[g] for g in groups])
    axes.set(ylim=(-5, 108), ylabel="placed [%]")
    axes.set_xlabel(xlabel, labelpad=14 + 10 * len(policies))
    _legend(axes)
    return embed_figure(figure)


def _legend(axes: Axes) -> None:
    """Above the axes, however many lines it takes."""
    axes.legend(frameon=False, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _colours(names: list[str]) -> dict[str, str]:
    """A colour for each name: a head's own, paler with camera augmentation."""
    others = cycle(OTHERS)
    return {name: COLOURS[name] if name in COLOURS else next(others) for name in names}


def efficiency_figure(rows: list[dict], name_of: Callable[[dict], str], names: Sequence[str] = ()) -> str:
    """Place rate against the number of demonstrations trained on, a line for each name, with Wilson intervals.

    `names` come first and look the same in every figure that is given them, whichever of them its rows have.
    """
    figure, axes = plt.subplots(figsize=(5, 3))
    lines: dict[str, list[dict]] = {}
    for row in rows:
        lines.setdefault(name_of(row), []).append(row)
    every = list(dict.fromkeys([*names, *lines]))
    colours, markers = _colours(every), dict(zip(every, cycle(MARKERS), strict=False))
    for name in (name for name in every if name in lines):
        line = lines[name]
        line.sort(key=lambda row: row["demonstrations"])
        n, place = ([row[key] for row in line] for key in ("demonstrations", "place"))
        error = [[abs(row["place"] - row["wilson95"][side]) for row in line] for side in (0, 1)]
        colour, fmt = colours[name], f"{markers[name]}-"
        axes.errorbar(n, place, error, fmt=fmt, ms=4, color=colour, label=label(name), capsize=2, lw=1)
    numbers = sorted({row["demonstrations"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.set(ylim=(-5, 108), ylabel="placed [%]", xlabel="demonstrations trained on")
    _legend(axes)
    return embed_figure(figure)


def _point(axes: Axes, x: float, k: int, n: int, style: tuple[str, str], name: str | None) -> None:
    low, high = wilson95(k, n)
    y = 100 * k / n
    error = [[max(0.0, y - low)], [max(0.0, high - y)]]
    colour, marker = style
    axes.errorbar(x, y, error, fmt=marker, ms=4, color=colour, label=name, capsize=2, lw=1)


def polar_figure(records: list[dict], policies: list[str], trained: list[tuple[float, float]]) -> str:
    """Place rate by the camera's direction (angle) and its distance from LIBERO's own (radius), one disc a policy.

    `trained`: (theta, phi) [degrees] of the cameras that demonstrations were seen by, marked with crosses.
    """
    figure, discs = plt.subplots(
        1, len(policies), figsize=(3.5 * len(policies), 3.4), subplot_kw={"projection": "polar"}, squeeze=False
    )
    # At an angle of 0 every direction is the same camera.
    views = sorted({_camera(r["view"]) for r in records})
    known = sorted({_camera(view) for view in trained})
    for disc, policy in zip(discs[0], policies, strict=True):
        rates, counts = [], []
        for view in views:
            placed = [r["outcome"] == "place" for r in records if r["policy"] == policy and _camera(r["view"]) == view]
            rates.append(np.mean(placed) if placed else np.nan)
            counts.append(len(placed))
        angle, radius = np.radians([v[1] for v in views]), [v[0] for v in views]
        disc.scatter(angle, radius, c=rates, cmap=SHARE, vmin=0, vmax=1, s=60, edgecolor="0.4", lw=0.4)
        if known:
            disc.scatter(np.radians([p for _, p in known]), [t for t, _ in known], c="k", marker="x", s=22, lw=1)
        disc.set_theta_zero_location("N")  # phi = 0 raises the camera
        disc.set_rticks([10, 20], ["10°", "20°"], fontsize=6)
        disc.set_xticks(np.radians(range(0, 360, 90)), ["raised", "left", "lowered", "right"], fontsize=6)
        n = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{max(counts)}"
        disc.tick_params(axis="x", pad=-2)
        disc.set_title(f"{label(policy)} (n = {n} a camera)", fontsize=8)
    return embed_figure(figure)


def _camera(view: tuple[float, float]) -> tuple[float, float]:
    theta, phi = view
    return theta, phi if theta > 0 else 0.0


def position_map(records: list[dict], policies: list[str], trained: Float[np.ndarray, "n 2"]) -> str:
    """Bowl positions as the camera sees the table: trained on (grey), and tested (share of episodes placed)."""
    figure, maps = plt.subplots(1, len(policies), figsize=(3.4 * len(policies), 2.6), squeeze=False)
    for axes, policy in zip(maps[0], policies, strict=True):
        axes.scatter(trained[:, 1], trained[:, 0], s=8, c="0.75", marker="s", label="trained on")
        mine = [r for r in records if r["policy"] == policy]
        placed: dict[tuple, list[bool]] = {}
        for r in mine:
            placed.setdefault(tuple(np.round(r["bowl_xy"], 2)), []).append(r["outcome"] == "place")
        xy = np.array(list(placed))
        if len(xy):
            shown = axes.scatter(
                xy[:, 1],
                xy[:, 0],
                c=[np.mean(p) for p in placed.values()],
                s=22,
                cmap=SHARE,
                vmin=0,
                vmax=1,
                edgecolor="0.3",
                lw=0.4,
                label="tested",
            )
        axes.set(xlim=np.array(Y_RANGE) + [-0.03, 0.03], ylim=np.array(X_RANGE)[::-1] + [0.03, -0.03])
        axes.set_title(f"{label(policy)} (n = {len(mine)})", fontsize=8)
        axes.set_xlabel("y [m], image right", fontsize=7)
        if axes is maps[0][0]:
            axes.set_ylabel("x [m], towards the camera", fontsize=7)
            axes.legend(frameon=False, fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2)
        axes.tick_params(labelsize=6)
        axes.set_aspect("equal")
    if len(xy):
        figure.colorbar(shown, ax=list(maps[0]), label="share placed", shrink=0.7)
    return embed_figure(figure)


def rollout_grid(folder: Path, records: list[dict], name: str, n: int = 20) -> str:
    """A playing sheet of the first `n` episodes with coloured frames: placed green, grasped yellow, missed red."""
    chosen = sorted(records, key=lambda r: r["episode"])[:n]
    clips = []
    for r in chosen:
        path = video_file(folder, r)
        clips.append(read_video(path, r["chunks"] + 1))
    sheet = labelled_grid(clips, [caption(r) for r in chosen], [r["outcome"] for r in chosen], columns=5, tile=112)
    file = folder / f"grid_{name}.mp4"
    write_video(file, sheet, 2)
    return embed_file(file, "video/mp4")


def caption(record: dict) -> str:
    """Of an episode in a grid: its outcome, and its camera (theta/phi), its fixed state, or its distance."""
    if record["view"] is not None:
        where = "{:.1f}/{:.0f} deg".format(*record["view"])
    elif record["init_state"] is not None:
        where = f"state {record['init_state']}"
    else:
        where = f"{100 * record['distance']:.0f} cm"
    return f"{record['outcome'].upper()} {where}"
