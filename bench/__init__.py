"""Measurements of speed and memory: ratios of two forms of one computation, side by side in one run."""
