"""Training scripts: stage one (video) and stage two (joint with an action head)."""
