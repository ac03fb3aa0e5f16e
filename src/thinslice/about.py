"""Version of the software, and the notice in everything that it writes or prints."""

from __future__ import annotations

__version__ = "0.1.0"

NOTICE = (
    "Research software, not a medical device. Synthesised detail can be wrong. "
    "Not for diagnosis; keep the original images."
)
"""The notice that the command line, reports and DICOM outputs carry."""
