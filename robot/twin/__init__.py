"""A simulated SO-100 behind a pseudo-terminal."""
