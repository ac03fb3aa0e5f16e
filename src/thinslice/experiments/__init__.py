"""Suites that train and score."""
