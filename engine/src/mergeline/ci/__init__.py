"""What only workflows call."""
