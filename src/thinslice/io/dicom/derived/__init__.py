"""Derived series to write: headers from those of the source slices, pixels as thin slabs come."""
