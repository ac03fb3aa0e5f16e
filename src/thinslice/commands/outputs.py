"""Outputs of a command, checked before the input is read: what would be refused later is refused at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from thinslice.errors import OutputBusyError, OutputError, OutputExistsError, UnreadableError, UsageError
from thinslice.options import option


def check_sources(sources: Sequence[Path]) -> None:
    """Refuse inputs that are missing or that may not be read; their content is not checked.

    Raises:
        UnreadableError: the message holds the path as given; check it, or its permissions.
    """
    for source in sources:
        try:
            source.stat()
            allowed = os.access(source, os.R_OK | os.X_OK if source.is_dir() else os.R_OK)
        except PermissionError:
            allowed = False
        except (OSError, ValueError):
            raise UnreadableError(f"There is nothing at {str(source)!r}; check the path.") from None
        if not allowed:
            raise UnreadableError(f"{str(source)!r} may not be read by you; check its permissions.")


def check_order(source: Path, output: Path) -> None:
    """Refuse an input that is missing beside an output that exists, as when their order was mixed up.

    Raises:
        UnreadableError: check the order and the path.
    """
    with suppress(PermissionError):  # what may not be looked at has a message of its own
        if not source.exists() and output.exists():
            raise UnreadableError(
                f"There is nothing at {str(source)!r}, and {str(output)!r}, the output, exists: the input comes first, "
                "then the output; check the order and the path."
            )


def check_distinct(outputs: Sequence[Path], sources: Sequence[Path]) -> None:
    """Refuse two outputs of one name, and an output that would replace the input.

    Raises:
        UsageError: choose another output.
    """
    places = [path.resolve() for path in outputs]
    if len(set(places)) < len(places):
        raise UsageError("Two outputs have one name; give each its own.")
    for source in (source.resolve() for source in sources):
        for path, place in zip(outputs, places, strict=True):
            if place == source or place in source.parents:
                raise UsageError(f"{str(path)!r} would replace the input; choose another output.")


def check_place(path: Path, *, overwrite: bool = False, folder: bool = False) -> None:
    """Refuse an output that could not be made.

    Args:
        path: the output as the user gave it.
        overwrite: whether one that is there may be replaced.
        folder: whether it will be a folder.

    Raises:
        UsageError: a file is there where a folder would be made.
        OutputExistsError: it exists and `overwrite` is false; an empty folder may be filled.
        OutputError: the folder that should hold it is missing, or cannot be written.
        OutputBusyError: another run is writing it.
    """
    from thinslice.system.atomic import require_place

    shown, parent = repr(str(path)), path.parent
    try:
        if folder and path.is_file():
            raise UsageError(
                f"The output {shown} is a file, and a DICOM series needs a folder; the last path is the output, so "
                "name a new folder there, or a file that ends in .nii.gz."
            )
        if parent.is_file():
            raise OutputError(f"{str(parent)!r}, which should hold {path.name!r}, is a file; name a folder there.")
        if not path.resolve().parent.is_dir():
            raise OutputError(
                f"The folder {str(parent)!r}, which should hold {path.name!r}, does not exist; create it first."
            )
        require_place(path, overwrite=overwrite, folder=folder)
    except OutputExistsError:
        raise OutputExistsError(
            f"{shown} exists; choose another output, or pass {option('overwrite', True)}."
        ) from None
    except OutputBusyError:
        raise OutputBusyError(
            f"Another run is writing {shown}; wait for it to end, or choose another output."
        ) from None
    except PermissionError:
        raise OutputError(
            f"Cannot write {shown}: its folder is read-only or not yours; choose another output."
        ) from None
