"""Bins hold what they encode."""

import pytest
import torch

from videopolicy.bins import Bins
from videopolicy.errors import BadInput


@pytest.mark.parametrize("bins", [Bins(-0.02, 0.33, 32), Bins(0.0, 1.0, 2), Bins(-5.0, 7.0, 1)])
def test_bins_hold_what_they_encode(bins: Bins) -> None:
    """decode(one-hot(encode(x))) is within half a bin; outer values fall into the outer bins and are counted."""
    value = torch.linspace(bins.low, bins.high, 101)
    index = bins.encode(value)
    logits = 50.0 * torch.nn.functional.one_hot(index, bins.n).float()
    assert ((bins.decode(logits) - value).abs() <= bins.width / 2 + 1e-5).all()
    assert bins.encode(bins.centres(value)).tolist() == list(range(bins.n))
    beyond = torch.tensor([bins.low - 1, bins.high + 1])
    assert bins.encode(beyond).tolist() == [0, bins.n - 1]
    assert bins.outside(beyond).all()
    assert not bins.outside(bins.centres(value)).any()


def test_bins_around_labels_leave_room() -> None:
    bins = Bins.around(0.1, 0.3, 32)
    assert (bins.low, bins.high, bins.n) == (pytest.approx(0.085), pytest.approx(0.315), 32)


def test_bins_decode_between_centres() -> None:
    """Two equal neighbours mean the edge between them; a far second peak does not pull."""
    bins = Bins(0.0, 1.0, 10)
    logits = torch.full((10,), -50.0)
    logits[3] = logits[4] = 10.0
    assert bins.decode(logits).item() == pytest.approx(0.4, abs=1e-5)
    logits[4], logits[9] = -50.0, 9.9
    assert bins.decode(logits).item() == pytest.approx(0.35, abs=1e-5)


@pytest.mark.parametrize(("low", "high", "n"), [(0.1, 0.1, 4), (0.2, 0.1, 4), (0.0, float("nan"), 4), (0.0, 1.0, 0)])
def test_degenerate_bins_are_refused(low: float, high: float, n: int) -> None:
    with pytest.raises(BadInput, match="bins"):
        Bins(low, high, n)
