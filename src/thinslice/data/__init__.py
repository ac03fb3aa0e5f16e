"""Data sets, simulated thick slices, crops and the phantom."""
