"""Arguments of commands: LABEL=PATH, LABEL=THICK,THIN and lists of factors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thinslice.errors import UsageError


def factors(text: str) -> list[int]:
    """The factors of an option, in its order.

    Raises:
        UsageError: for anything but whole numbers from 2 on, separated by commas.

    >>> factors("2,3, 5")
    [2, 3, 5]
    """
    try:
        wanted = [int(factor) for factor in text.split(",")]
    except ValueError:
        wanted = []
    if not wanted or min(wanted) < 2:
        raise UsageError(f"--factors {text!r}: use whole numbers from 2 on, separated by commas, as in 2,3,5.")
    return wanted


def thin_cases(arguments: Sequence[str] | None) -> dict[str, Path]:
    """Paths of thin volumes by label.

    Raises:
        UsageError: for a case without label or path, and for a label that occurs twice.

    >>> thin_cases(["a=x.nii.gz"])
    {'a': PosixPath('x.nii.gz')}
    """
    return {label: Path(path) for label, path in _labelled("--thin", "LABEL=PATH", arguments).items()}


def pair_cases(arguments: Sequence[str] | None) -> dict[str, tuple[Path, Path]]:
    """Paths of thick and thin volumes by label.

    Raises:
        UsageError: for a case without label or two paths, and for a label that occurs twice.

    >>> pair_cases(["head=thick.nii.gz,thin.nii.gz"])
    {'head': (PosixPath('thick.nii.gz'), PosixPath('thin.nii.gz'))}
    """
    shape = "LABEL=THICK,THIN"
    found = {}
    for label, paths in _labelled("--pair", shape, arguments).items():
        thick, _, thin = paths.partition(",")
        if not thick or not thin or "," in thin:
            raise _malformed("--pair", shape)
        found[label] = (Path(thick), Path(thin))
    return found


def folders_of(option: str, arguments: Sequence[str] | None) -> dict[str, Path]:
    """Folders by label.

    Raises:
        UsageError: for a folder without label, and for a label that occurs twice.

    >>> folders_of("--method", ["cubic=a"])
    {'cubic': PosixPath('a')}
    """
    return {label: Path(path) for label, path in _labelled(option, "LABEL=FOLDER", arguments).items()}


def own_weights(name: str) -> Path:
    """The weights file whose card --write-card changes: a user's file, never one of this installation.

    Raises:
        UsageError: for a name of the catalog, and for a path without a file; name a weights file of your own.
    """
    from thinslice.models import catalog

    if name in catalog.names():
        raise UsageError(
            f"--write-card changes a weights file, and {name!r} belongs to this installation; name a file of your own."
        )
    return catalog.weights_of(name)


def _labelled(option: str, shape: str, arguments: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for case in arguments or []:
        label, _, rest = case.partition("=")
        if not label or not rest:
            raise _malformed(option, shape)
        if label in found:
            raise UsageError(f"{option} gives one label twice; give each a label of its own.")
        found[label] = rest
    return found


def _malformed(option: str, shape: str) -> UsageError:
    # The argument is not quoted: a file's name may be a patient's.
    return UsageError(f"{option} takes {shape}, a label of your choice before each path.")
