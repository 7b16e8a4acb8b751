"""Temporal ensembling: chunks that speak of the same waypoint are averaged (Zhao et al. 2023, section IV-A).

Waypoints are counted, not timed: an executor may take longer over one than the chunk's period, and what a chunk says
next is what comes after the waypoints executed so far. Numpy only, because the loop runs beside the simulator.
"""

from collections.abc import Sequence

import numpy as np

from videopolicy.types import ActionChunk


def ensembled(chunks: Sequence[ActionChunk], n_execute: int, m: float) -> ActionChunk:
    """The last of an episode's chunks, averaged with what those before it say of the same waypoints.

    `chunks` are an episode's predictions, oldest first, one every `n_execute` waypoints. Of those that reach a waypoint
    the oldest has weight 1, the i-th after it exp(-m i). An average was seen at no pixel: it has none, and no
    confidence, unless the last chunk is the only one that reaches.
    """
    last = chunks[-1]
    n_steps = len(last.position)
    reaching = chunks[-1 - (n_steps - 1) // n_execute :]  # oldest first; the others end before the first waypoint
    if len(reaching) == 1:
        return last
    weight = np.zeros((len(reaching), n_steps))  # of chunk i in waypoint k of the last one
    position, gripper, rotation = np.zeros(weight.shape + (3,)), np.zeros(weight.shape), np.zeros(weight.shape + (3,))
    for i, chunk in enumerate(reaching):
        skip = (len(reaching) - 1 - i) * n_execute  # waypoints of it that were executed since
        n = n_steps - skip
        weight[i, :n] = 1.0
        position[i, :n], gripper[i, :n] = chunk.position[skip:], chunk.gripper[skip:]
        if chunk.rotation is not None:
            rotation[i, :n] = chunk.rotation[skip:]
    weight *= np.exp(-m * np.maximum(np.cumsum(weight, 0) - 1, 0))  # counted from the oldest that reaches
    weight /= weight.sum(0)
    turned = None
    if last.rotation is not None:  # angles: the mean direction, not the mean number
        sine, cosine = (np.einsum("ik,ika->ka", weight, f(rotation)) for f in (np.sin, np.cos))
        turned = np.arctan2(sine, cosine)
    mean = np.einsum("ik,ika->ka", weight, position), np.einsum("ik,ik->k", weight, gripper)
    return ActionChunk(*mean, last.period, rotation=turned)
