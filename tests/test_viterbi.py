"""Temporal decoding against brute force."""

from itertools import product

import pytest
import torch

from videopolicy.heads.viterbi import most_likely_path


@pytest.mark.parametrize("stiffness", [0.0, 0.1, 1.0, 30.0])
def test_the_path_is_the_best_of_all(stiffness: float) -> None:
    rows, cols, n_steps = 2, 3, 4
    score = 2 * torch.randn(3, n_steps, rows, cols, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row, col = most_likely_path(score, stiffness)
    cells = list(product(range(rows), range(cols)))
    for b in range(3):

        def value(path: tuple, b: int = b) -> float:
            jumps = sum((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 for p, q in zip(path, path[1:], strict=False))
            return float(sum(score[b, t, p[0], p[1]] for t, p in enumerate(path))) - stiffness * jumps

        best = max(product(cells, repeat=n_steps), key=value)
        assert list(zip(row[b].tolist(), col[b].tolist(), strict=True)) == list(best)


def test_no_stiffness_is_each_steps_own_argmax() -> None:
    score = torch.randn(2, 6, 9, 7, generator=torch.Generator().manual_seed(1))
    row, col = most_likely_path(score, 0.0)
    assert torch.equal(row * 7 + col, score.flatten(2).argmax(-1))
