"""One readable training loop."""
