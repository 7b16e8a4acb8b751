"""Backbones turn images into features and know nothing of actions."""
