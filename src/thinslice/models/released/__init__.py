"""Checkpoints as the authors released them: read as data, without running their pickle, and converted."""
