"""Scores, protocols, pictures and reports."""
