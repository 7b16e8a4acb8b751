"""A run's log without a run: what a policy saw and said, ticks of an arm that lifts its elbow."""

from pathlib import Path

import numpy as np
from builders import agentview, background

from robot.control import Tick
from robot.pictures import Look, Pictures
from robot.telemetry import Telemetry
from videopolicy.types import ActionChunk, Observation

SIDE, N_STEPS, GRID = 64, 4, (6, 8)
BEGAN, RATE, N_TICKS = 1000.0, 50.0, 120  # [s], [Hz]
TABLE = 0.02  # [m]


def look(number: int, heatmaps: bool = True) -> Look:
    """Of a moment 0.8 s after the one before; one cell of each heatmap is hot, along its diagonal."""
    observation = Observation(background(SIDE), agentview(SIDE), np.array([-0.1, 0.0, 0.15]), 0.75, 0.8 * number)
    maps = np.zeros((N_STEPS, *GRID), np.uint8)
    maps[np.arange(N_STEPS), np.arange(N_STEPS), np.arange(N_STEPS)] = 255
    position = np.array([0.0, 0.01 * number, 0.1]) + 0.02 * np.arange(N_STEPS)[:, None]
    gripper = np.linspace(0, 1, N_STEPS)
    chunk = ActionChunk(position, gripper, 0.2, heatmaps=maps if heatmaps else None)
    return Look(observation, chunk, BEGAN + 0.1 + 0.8 * number, BEGAN + 0.2 + 0.8 * number, TABLE)


def tick(number: int) -> Tick:
    """The first ten hold, for want of a waypoint; the third, of a goal."""
    running = number >= 10
    position = [0.1, -1.5, 1.2 + 0.001 * number, 1.1, 0.0]
    return Tick(
        tick=number,
        now=BEGAN + number / RATE,
        mode="run" if running else "hold",
        queue=1.0,
        age=0.1,
        since=BEGAN,
        target=[0.2, 0.0, 0.1] if running else [np.nan] * 3,
        goal=[np.nan] * 5 if number == 2 else [angle + 0.01 for angle in position],
        position=position,
        opening=0.5,
        load=[0.01 * number] * 6,
        temperature=[30.0] * 6,
        errors=[0] * 6,
        silent=0.01,
        retries=0,
        held=0,
        why="" if running else f"no waypoint for {number / RATE:.1f} s",
    )


def write(folder: Path, n_pictures: int) -> list[Look]:
    """As robot.run would, into an empty folder; what was seen."""
    shown = [look(i) for i in range(n_pictures)]
    with Telemetry(folder, per_file=50) as telemetry:
        for i in range(N_TICKS):
            telemetry.add(tick(i))
    if shown:
        with Pictures(folder) as pictures:
            for one in shown:
                pictures.add(one)
    return shown
