"""Fixtures of the command line."""

from __future__ import annotations

from support.command_line import run, thick_nifti

__all__ = ["run", "thick_nifti"]
