"""How fast training goes, and what of the device it uses."""

import resource

import torch

# Dense bf16 peak [TFLOP/s] by the name that the driver gives the device, as their data sheets have it.
PEAK = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0}


def known_peak(device: torch.device) -> float | None:
    """Its dense bf16 peak [TFLOP/s]; None where it is not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((value for key, value in PEAK.items() if key in name), None)


class Throughput:
    """Samples a second over all processes, operations and memory of this one.

    Operations are the needed ones: activations that are computed again instead of kept count once.
    """

    def __init__(self, device: torch.device, n_processes: int, batch_size: int) -> None:
        self.device, self.n_processes, self.batch_size = device, n_processes, batch_size
        self.flop_per_sample = 0.0  # until it is known
        self.peak = known_peak(device)

    def rates(self, n_steps: int, seconds: float) -> dict[str, float]:
        """Of `n_steps` that took so long; `mfu` is the share of the device's peak, where it is known."""
        samples = n_steps * self.batch_size / seconds
        found = {"samples_per_second": samples, "peak_memory_gib": self._memory() / 2**30}
        if self.flop_per_sample:
            tera = samples / self.n_processes * self.flop_per_sample / 1e12
            found["tflop_per_second"], found["gflop_per_sample"] = tera, self.flop_per_sample / 1e9
            if self.peak is not None:
                found["mfu"] = tera / self.peak
        return found

    def _memory(self) -> int:
        """Bytes: the most that tensors held on a GPU; on a CPU the most that the process did."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
