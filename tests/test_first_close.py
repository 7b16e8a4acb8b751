import json

import pytest

from eval.ablations_report import closes
from eval.first_close import first_close


def episode(heights: list[list[float]], grippers: list[list[float]], x: float = 0.03, n_execute: int = 2) -> dict:
    """Chunks whose waypoints are `x` before the bowl at (0.1, -0.2)."""
    targets = [[[0.1 - x, -0.2, z] for z in chunk] for chunk in heights]
    return {"bowl_xy": [0.1, -0.2], "n_execute": n_execute, "targets": targets, "grippers": grippers}


def test_it_is_the_first_executed_waypoint_that_is_closed() -> None:
    heights = [[0.2, 0.1, 0.01], [0.08, 0.02, 0.3]]
    # The first chunk's third waypoint is closed, but only two of a chunk are executed.
    record = episode(heights, [[1.0, 0.9, 0.0], [0.6, 0.5, 0.0]])
    assert first_close([record]) == {"beside_mm": 30, "above_mm": 20, "never": 0}
    assert first_close([record | {"n_execute": 3}]) == {"beside_mm": 30, "above_mm": 10, "never": 0}


def test_medians_leave_out_those_that_never_close() -> None:
    closed = [episode([[z]], [[0.0]], x) for z, x in ((0.01, 0.02), (0.05, 0.04), (0.3, 0.09))]
    never = episode([[0.1]], [[1.0]])
    assert first_close([*closed, never]) == {"beside_mm": 40, "above_mm": 50, "never": 1}
    assert first_close([never]) is None


def test_without_a_bowl_there_is_nothing_to_say() -> None:
    record = episode([[0.1]], [[0.0]])
    del record["bowl_xy"]
    assert first_close([record]) is None


@pytest.mark.parametrize(("found", "shown"), [(None, ""), ({"beside_mm": 44, "above_mm": 16, "never": 0}, "44, 16")])
def test_it_is_a_cell_of_the_table(found: dict | None, shown: str) -> None:
    assert closes(json.loads(json.dumps(found))) == shown
