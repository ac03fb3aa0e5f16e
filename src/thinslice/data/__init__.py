"""Data sets, simulated thick slices, crops and phantoms."""
