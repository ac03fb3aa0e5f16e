"""Fixtures of commands."""

from __future__ import annotations

from support.command_line import thick_nifti

__all__ = ["thick_nifti"]
