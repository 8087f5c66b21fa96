"""Loading: a run's directory as a model and its data."""
