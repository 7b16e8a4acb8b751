"""What a policy says of one picture, read out of its head, and drawn on one page."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from videopolicy.camera import Camera
from videopolicy.data.targets import Waypoints
from videopolicy.heads.heatmap import HeatmapHead, Heatmaps
from videopolicy.heads.para import ParaHead
from videopolicy.heads.regression import PixelRegressionHead
from videopolicy.images import resized
from videopolicy.policy import FeaturePolicy
from videopolicy.types import ActionChunk
from videopolicy.viz.draw import PREDICTED, TRUE, heat

COLUMNS, SIDE = 7, 480  # heatmaps in a row; pixels along the longer side of a picture that is drawn
SEEN = 0.05  # of a heatmap's largest probability, below which it does not count as something to be shown
LEAST = 0.3  # of that side: the smallest part of a picture that is drawn
OURS, THEIRS = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in (PREDICTED, TRUE))
Part = tuple[float, float, float]  # left, top and side of a square [pixels of the picture as it is drawn]


@dataclass(frozen=True)
class Reading:
    """Of one picture, in whose own pixels all pixels are; NaN where nothing is seen."""

    image: UInt8[np.ndarray, "height width 3"]
    camera: Camera | None
    start: Float[np.ndarray, " 2"]
    pixel: Float[np.ndarray, "step 2"]  # where a head points, or where the camera sees what it regresses
    chunk: ActionChunk | None  # of a head that acts
    track: Float[np.ndarray, "step 2"] | None  # pixels that a head regresses beside the positions it acts by
    confidence: Float[np.ndarray, " step"] | None
    heatmap: Float[Tensor, "step row col"] | None  # logits
    shares: dict[str, tuple[Float[np.ndarray, " edge"], Float[np.ndarray, "step bin"]]]  # edges of bins, probabilities


@torch.inference_mode()
def read(
    policy: FeaturePolicy,
    image: UInt8[np.ndarray, "height width 3"],
    camera: Camera | None,
    start: Float[np.ndarray, " 2"],
    ee_position: Float[np.ndarray, " 3"] | None,
) -> Reading:
    """What `policy.act` would say, and what it says it by."""
    head, size = policy.head, policy.image_size
    scale, device = np.array(size) / image.shape[1::-1], next(head.parameters()).device
    pixel_of_start = torch.from_numpy(start * scale).float().to(device)
    height = None if ee_position is None else torch.from_numpy(ee_position[2:]).float().to(device)
    picture = torch.from_numpy(resized(image, size).copy()).to(device)
    prediction = policy.read(picture[None], pixel_of_start[None], height)
    chunk, confidence, track, shares = None, None, None, {}
    if camera is not None and head.acts:
        (chunk,) = head.decode(prediction, [camera])
        confidence = chunk.confidence
        pixel = camera.project(chunk.position)
        if chunk.pixel is not None and not isinstance(head, ParaHead):
            track = chunk.pixel / scale
    else:
        assert isinstance(head, HeatmapHead | PixelRegressionHead)
        pixel = head.pixels(prediction)[0].double().cpu().numpy() / scale
        if isinstance(head, HeatmapHead):
            confidence = head.peaks(prediction.volume, prediction.volume).confidence[0].cpu().numpy()
    if isinstance(head, ParaHead):
        found = head.shares(prediction, torch.from_numpy(pixel * scale).float()[None].to(device))
        for name, bins in (("height", head.height_bins), ("gripper", head.gripper_bins)):
            shares[name] = (np.linspace(bins.low, bins.high, bins.n + 1), found[name][0].cpu().numpy())
    heatmap = prediction.heatmap[0].cpu() if isinstance(prediction, Heatmaps) else None
    return Reading(image, camera, start, pixel, chunk, track, confidence, heatmap, shares)


def draw(
    found: Reading, truth: Waypoints | None, ee_position: np.ndarray | None, title: str, notes: list[str]
) -> Figure:
    """One page: heatmaps; the path on the picture and from above; heights, gripper and confidence over the steps."""
    view, scale = _view(found.image)
    part = part_of(found, truth, view.shape[:2], scale)
    n_tiles = 1 + (len(found.pixel) if found.heatmap is not None else 0)
    n_rows = -(-n_tiles // COLUMNS)
    side = 15 / COLUMNS
    heights = [n_rows * (side + 0.25)] * (n_tiles > 1) + [5.4]
    figure = Figure(figsize=(15, sum(heights) + 0.4 + 0.2 * len(notes)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if n_tiles > 1:
        tiles = parts[0].subplots(n_rows, COLUMNS, squeeze=False).ravel()
        for axes in tiles:
            axes.axis("off")
        _whole(tiles[0], view, found.start * scale, part)
        _heatmaps(list(tiles[1:]), found, truth, part)
    middle, right = parts[-1].subfigures(1, 2, width_ratios=[2, 1])
    on_picture, above = middle.subplots(1, 2)
    _path(on_picture, found, truth, part)
    _above(above, found, truth, ee_position)
    _curves(right, found, truth)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=9)
    return figure


def _whole(axes: Axes, view: np.ndarray, start: np.ndarray, part: Part) -> None:
    """All of the picture, and which part of it the others show."""
    left, top, side = part
    axes.imshow(view)
    axes.plot(*start, "x", color="w", ms=6, mew=2)
    axes.plot(*np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]).T * side + [[left], [top]], "w--", lw=1)
    axes.set_title("the picture, and the part below", fontsize=8, pad=3)


def _heatmaps(tiles: list[Axes], found: Reading, truth: Waypoints | None, part: Part) -> None:
    assert found.heatmap is not None
    view, scale = _view(found.image)
    for i, (axes, logits) in enumerate(zip(tiles, found.heatmap, strict=False)):
        axes.imshow(heat(view, logits, (view.shape[1], view.shape[0])))
        if truth is not None and truth.in_episode[i]:
            axes.plot(*truth.pixel[i] * scale, "+", color=THEIRS, ms=9, mew=1.5)
        axes.plot(*found.pixel[i] * scale, "o", mfc="none", mec=OURS, ms=9, mew=1.5)
        when = f", {found.chunk.times[i]:g} s" if found.chunk is not None else ""
        sure = f", confidence {found.confidence[i]:.2f}" if found.confidence is not None else ""
        axes.set_title(f"step {i + 1}{when}{sure}", fontsize=8, pad=3)
        _cut(axes, part)


def _path(axes: Axes, found: Reading, truth: Waypoints | None, part: Part) -> None:
    """On the picture, all steps; hollow where the gripper is to be open."""
    view, scale = _view(found.image)
    axes.imshow(view)
    axes.set(xticks=[], yticks=[])
    axes.set_title("the path as the camera sees it" if found.chunk is not None else "pixels", fontsize=9)
    if truth is not None:
        axes.plot(*(truth.pixel[truth.in_episode] * scale).T, "-", color=THEIRS, lw=3, label="what happened")
    if found.track is not None:
        axes.plot(*(found.track * scale).T, ":", color="orange", lw=2, label="the pixels that the head says")
    _steps(axes, found.pixel * scale, found, found.start * scale)
    _cut(axes, part)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, fontsize=7, frameon=False)


def _cut(axes: Axes, part: Part) -> None:
    left, top, side = part
    axes.set(xlim=(left, left + side), ylim=(top + side, top))


def _above(axes: Axes, found: Reading, truth: Waypoints | None, ee_position: np.ndarray | None) -> None:
    """From above, over the picture laid on the table."""
    if found.chunk is None or found.camera is None:
        axes.axis("off")
        return
    way = found.chunk.position[:, :2]
    start = np.full(2, np.nan) if ee_position is None else ee_position[:2]
    others = [start[None]] if truth is None else [start[None], truth.position[truth.in_episode, :2]]
    every = np.concatenate([way, *others])
    low, high = np.nanmin(every, 0), np.nanmax(every, 0)
    middle, half = (low + high) / 2, max(0.6 * (high - low).max(), 0.1) + 0.02
    x, y = (np.linspace(m - half, m + half, 300) for m in middle)
    view, _ = _view(found.image)
    camera = found.camera.resized((view.shape[1], view.shape[0]))
    uv = camera.project(np.stack([*np.meshgrid(x, y), np.zeros((300, 300))], -1))
    inside = camera.contains(uv)
    laid = np.full((300, 300, 3), 235, np.uint8)
    u, v = uv[inside].astype(int).T
    laid[inside] = view[v, u] // 2 + 127
    axes.imshow(laid, origin="lower", extent=(x[0], x[-1], y[0], y[-1]))
    if truth is not None:
        axes.plot(*truth.position[truth.in_episode, :2].T, "-", color=THEIRS, lw=3)
    _steps(axes, way, found, start)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.set_title("from above, over the picture laid on the table", fontsize=9)
    axes.set_xlabel("x [m]", fontsize=8)
    axes.set_ylabel("y [m]", fontsize=8)
    axes.tick_params(labelsize=7)


def _steps(axes: Axes, at: Float[np.ndarray, "step 2"], found: Reading, start: np.ndarray) -> None:
    """Numbered points on a line from the start, which is a cross."""
    line = np.concatenate([start[None], at])
    axes.plot(*line[~np.isnan(line).any(1)].T, "-", color=OURS, lw=1.5)
    axes.plot(*start, "x", color="k", ms=8, mew=2, ls="", label="start")
    opened = np.zeros(len(at), bool) if found.chunk is None else found.chunk.gripper >= 0.5
    for name, which, face in (("gripper open", opened, "w"), ("closed", ~opened, OURS)):
        label = name if found.chunk is not None else "steps"
        if which.any():
            axes.scatter(
                at[which, 0], at[which, 1], s=44, c=face, edgecolors="k", linewidths=0.8, zorder=3, label=label
            )
    for i, (x, y) in enumerate(at):
        if np.isfinite(x + y):
            axes.annotate(str(i + 1), (x, y), (5, 4), textcoords="offset points", fontsize=7, zorder=4)


def _curves(part: SubFigure, found: Reading, truth: Waypoints | None) -> None:
    """Height and gripper over what their bins say, and confidence, of those that there are."""
    steps = np.arange(1, len(found.pixel) + 1)
    curves: dict[str, np.ndarray | None] = {"confidence": found.confidence}
    if found.chunk is not None:
        curves = {"height [m]": found.chunk.position[:, 2], "gripper, 1 open": found.chunk.gripper, **curves}
    curves = {name: values for name, values in curves.items() if values is not None}
    if not curves:
        return
    true = {} if truth is None else {"height [m]": truth.height, "gripper, 1 open": truth.gripper}
    every = part.subplots(len(curves), 1, squeeze=False, sharex=True).ravel()
    for axes, (name, values) in zip(every, curves.items(), strict=True):
        edges, share = found.shares.get(name.split()[0].strip(","), (None, None))
        if edges is not None and share is not None:
            axes.pcolormesh(np.arange(len(steps) + 1) + 0.5, edges, share.T, cmap="Greys", vmin=0, vmax=1)
        if truth is not None and name in true:
            axes.plot(steps[truth.in_episode], true[name][truth.in_episode], "-", color=THEIRS, lw=3)
        axes.plot(steps, values, "o-", color=OURS, ms=4, mec="k", mew=0.6)
        axes.set_ylabel(name, fontsize=8)
        axes.tick_params(labelsize=7)
        if not name.startswith("height"):
            axes.set_ylim(-0.05, 1.05)
    if found.shares:
        every[0].set_title("grey: probabilities of the bins", fontsize=8)
    every[-1].set_xlabel("step", fontsize=8)
    every[-1].set_xticks(steps)


def _view(image: UInt8[np.ndarray, "height width 3"]) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
    """The picture as it is drawn, and how much larger that is."""
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return resized(image, size), scale


def part_of(found: Reading, truth: Waypoints | None, view: tuple[int, int], scale: float) -> Part:
    """The square that holds the path and what of the heatmaps is to be seen, within the picture where it can be."""
    rows, cols = view
    points = [found.start[None], found.pixel, *([] if truth is None else [truth.pixel[truth.in_episode]])]
    every = [np.concatenate(points) * scale]
    if found.heatmap is not None:
        likely = (found.heatmap - found.heatmap.amax((-2, -1), keepdim=True)).exp() > SEEN
        _, v, u = np.nonzero(likely.numpy())
        every.append((np.stack([u, v], -1) + 0.5) * np.array([cols, rows]) / likely.shape[:0:-1])
    uv = np.concatenate(every)
    uv = uv[np.isfinite(uv).all(1) & (uv >= 0).all(1) & (uv <= [cols, rows]).all(1)]
    if not len(uv):
        return 0.0, 0.0, float(max(rows, cols))
    low, high = uv.min(0), uv.max(0)
    side = min(max(1.2 * (high - low).max() + 20, LEAST * SIDE), max(rows, cols))
    left, top = ((low + high) / 2 - side / 2).clip(0, np.maximum([cols - side, rows - side], 0))
    return float(left), float(top), float(side)
