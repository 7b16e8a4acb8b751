"""Which demonstrations make a dataset: cells of the position grid, or random ones before 64 cameras."""

from dataclasses import dataclass

import numpy as np

from eval.orbit import PHIS, THETAS, orbit
from eval.positions import PLATE_XY, X_RANGE, Y_RANGE, Part, Shift, episode_seed, is_apart, training_cells
from videopolicy.errors import at_least_one


@dataclass(frozen=True)
class Spot:
    """One demonstration to record: where bowl and plate stand, and who looks; or in which state a task begins."""

    bowl_xy: np.ndarray | None  # None: as in the initial state that `extra` names
    extra: dict  # what the episode says of itself
    plate_xy: np.ndarray | None = None  # None: moves with the bowl
    view: tuple[float, float] | None = None  # (theta, phi) of `eval.orbit`; None: LIBERO's own
    task: str | None = None  # None: the scene of bowl and plate

    @property
    def where(self) -> str:
        """In words, for what is said of it."""
        if self.bowl_xy is None:
            return f"initial state {self.extra['init_state']}"
        return f"bowl at {self.bowl_xy.round(3).tolist()}"


@dataclass(frozen=True)
class GridConfig:
    """Demonstrations on cells of the position grid."""

    part: Part = "left"
    n_positions: int = 96  # of the part's cells, in a seeded order
    shift: Shift = "both"

    def spots(self, seed: int) -> list[Spot]:
        found = []
        for cell in training_cells(self.part, self.n_positions, seed):
            extra = {"row": cell.row, "col": cell.col}
            if self.shift == "both":
                found.append(Spot(cell.bowl_xy, extra))
            elif is_apart(cell.bowl_xy):
                found.append(Spot(cell.bowl_xy, extra, PLATE_XY))
        return found


@dataclass(frozen=True)
class ViewsConfig:
    """Demonstrations at random positions before each of the viewpoint axis's cameras."""

    n_each: int = 10
    thetas: tuple[float, ...] = THETAS  # degrees from LIBERO's own camera
    phis: tuple[float, ...] = PHIS  # degrees, direction

    def spots(self, seed: int) -> list[Spot]:
        at_least_one(self, "n_each", of="views.")
        found = []
        for theta in self.thetas:
            for phi in self.phis:
                orbit(theta, phi)  # refuses what is no view
                for i in range(self.n_each):
                    rng = np.random.default_rng(episode_seed("views", seed, theta, phi, i))
                    bowl_xy = rng.uniform(*np.array([X_RANGE, Y_RANGE]).T)
                    found.append(Spot(bowl_xy, {"theta": theta, "phi": phi, "number": i}, view=(theta, phi)))
        return found
