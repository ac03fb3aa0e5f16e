"""Phantoms: synthetic volumes with known truth, computed from formulas and a seed."""
