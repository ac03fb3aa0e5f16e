"""Whole studies: one from end to end, what a folder holds, and many in a row."""
