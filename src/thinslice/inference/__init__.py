"""A volume through a network: windows, stitching, consistency, slabs of finished thin slices."""
