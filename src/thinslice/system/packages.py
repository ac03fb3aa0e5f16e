"""Which packages of other projects are installed; none is loaded to find out."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from thinslice.errors import ModelError

TORCH_PACKAGES = ("torch", "einops")
"""Packages of the extra torch."""

TORCH_LINE = 'pip install ".[torch]" in a clone of the repository'
"""How PyTorch is installed."""


def is_installed(name: str) -> bool:
    """Whether a package is installed; a mere folder of that name does not count.

    >>> is_installed("numpy"), is_installed("no_such_package")
    (True, False)
    """
    try:
        spec = importlib.util.find_spec(name)
        return spec is not None and getattr(spec, "origin", None) is not None and bool(version_of(name))
    except (ImportError, ValueError):  # an environment may forbid a package; an unknown one has no metadata
        return False


def version_of(name: str) -> str:
    """Version of an installed package.

    Raises:
        ImportError: when it is not installed.
    """
    return importlib.metadata.version(name)


def require_torch(what: str) -> None:
    """Refuse what PyTorch alone can do where it is not installed.

    Args:
        what: subject of the sentence.

    Raises:
        ModelError: the message holds the line that installs it.
    """
    if not is_installed("torch"):
        raise ModelError(f"{what} needs PyTorch, which is not installed: {TORCH_LINE}.")
