"""Pixel-aligned robot actions on video diffusion models: the library behind the stages, the evaluation and the arm."""
