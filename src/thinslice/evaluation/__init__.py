"""Scores, protocols, statistics and clinical measures."""
