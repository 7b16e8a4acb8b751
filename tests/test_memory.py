"""What a training step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from videopolicy.training.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_000_000)  # 48 MB, above what glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    """Counted in page faults: new memory costs one for every 4 kB, or for every 2 MB where the kernel is generous."""
    result = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, after = (int(word) for word in result.stdout.split())
    assert before >= 20 * 20
    assert after < before / 20
