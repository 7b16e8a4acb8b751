"""Episodes as the page of positions has them: one axis with one executor, a list for each policy."""

from dataclasses import dataclass, field

AGAIN = "runs/again"  # where the command of an episode without a video records it
FACTS = (
    "object at x, y [m]",
    "distance to training, or beyond its half [cm]",
    "camera θ, φ [°]",
    "initial state",
    "ended, bowl to plate [cm]",
    "plans",
    "control steps",
    "mean confidence",
    "simulators lost",
    "seed",
    "commit",
)
TWIN = "twin"  # the executor of the arm's twin, as far as the page names one


@dataclass
class Group:
    """Episodes of one axis with one executor, which policies share."""

    suite: str
    split: str
    title: str
    executor: str
    right: tuple[int, int] = (0, 1)  # of x, y: what is right on the map, and what is down, as the camera sees it
    down: tuple[int, int] = (1, 0)
    table: list[list[float]] | None = None  # two corners of where positions are drawn from [m]
    policies: list[dict] = field(default_factory=list)
    trained: list[list] = field(default_factory=list)  # positions trained on, that policies name by number
