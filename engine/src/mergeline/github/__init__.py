"""Git and the place that keeps pull requests."""
