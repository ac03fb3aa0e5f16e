"""Phantoms: volumes made of formulas and a seed, whose truth is known."""
