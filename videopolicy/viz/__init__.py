"""Pictures of data, predictions and rollouts, as pure functions on arrays."""
