"""What the software is: its version, and the notice that everything it writes or prints carries."""

from __future__ import annotations

__version__ = "0.1.0"

NOTICE = (
    "Research software, not a medical device. Synthesised detail can be wrong. "
    "Not for diagnosis; keep the original images."
)
"""The notice that the command line, reports and DICOM outputs carry."""
