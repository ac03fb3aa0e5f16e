"""Slices to volumes: which belong together, on which grid they lie, and which series is meant."""
