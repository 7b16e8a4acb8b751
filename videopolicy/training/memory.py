"""Memory that a training step frees stays with the process: the next step needs as much again."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def keep_memory() -> bool:
    """Tell glibc not to give freed memory back to the kernel; False where the C library is another one.

    Without this every activation of more than 32 MB is new pages in every step, which the kernel has to find and clear:
    a fifth of the time of EfficientNet-Lite0's step on a CPU (docs/LOG.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
