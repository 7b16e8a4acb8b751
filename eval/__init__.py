"""LIBERO: scenes, demonstrations, closed-loop evaluation and reports."""
