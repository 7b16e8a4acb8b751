"""Figures of one page: what has the same name looks the same in each."""

from eval.figures import efficiency_figure

ROWS = [{"demonstrations": n, "place": 10.0 * n, "wilson95": [5.0, 90.0], "name": "3d"} for n in (1, 5)]


def test_a_name_looks_the_same_whichever_others_are_there() -> None:
    alone, first, third = (
        efficiency_figure(ROWS, lambda row: row["name"], names) for names in ((), ("3d", "2d"), ("scratch", "2d", "3d"))
    )
    assert alone == first  # a name without rows leaves nothing, not even in the legend
    assert third != first
