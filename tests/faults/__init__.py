"""Faults injected into the real programs: what they survive, and what is lost. `make faults`, a quick part in tests."""
