"""Heads turn features into action chunks and know nothing of robots or simulators."""
