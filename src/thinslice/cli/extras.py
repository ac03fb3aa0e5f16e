"""Packages that a command needs beyond the usual ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn the absence of an extra's packages, while they are imported, into a sentence that names the extra.

    Args:
        extra: name of the extra.

    Raises:
        MissingExtraError: a package of another project is missing; install the extra.
    """
    from thinslice.errors import MissingExtraError

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "thinslice":
            raise
        raise MissingExtraError(
            f"This command needs more packages ({error.name} is missing); in a clone of the repository: "
            f'pip install ".[{extra}]".'
        ) from error
