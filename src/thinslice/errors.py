"""The errors that thinslice raises on purpose, each with the exit code of the command line.

    ThinsliceError                  1   a fault of thinslice, unless a subclass says otherwise
    ├── UsageError                  2   the options contradict each other or name nothing
    │   └── ArgumentTypeError       2   an argument of another type than the function takes; a TypeError too
    ├── InputError                  3   the input is refused
    │   ├── UnreadableError         3   not a format that is read, or damaged
    │   ├── DownloadError           3   cannot be fetched, or is not what was published
    │   ├── UnreachableError        3   a store of objects does not answer; it may do so later
    │   ├── MissingExtraError       3   readable, once an optional dependency is installed
    │   ├── GeometryError           3   positions, orientation or spacing do not make a volume
    │   ├── SeriesChoiceError       3   several series: one must be named
    │   └── NotEligibleError        3   a good volume that cannot be upscaled as asked
    ├── ModelError                  4   the network or its weights
    │   ├── ShapeError              4   a depth, size or factor the network cannot do
    │   └── CheckpointError         4   weights damaged, hostile or for another architecture
    ├── OutputError                 5   the output cannot be written
    │   ├── OutputExistsError       5   it exists, and --overwrite is missing
    │   └── OutputBusyError         5   another run is writing it
    ├── ResourceError               6   memory or disk short
    ├── DeviceError                 7   the chosen device is not there
    └── PartlyDoneError             8   some items of a batch failed

A message is one sentence: the fault, its place, and the next step for the user. No message holds a value of an
attribute that identifies a patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable


class ThinsliceError(Exception):
    """Base of every deliberate error; `exit_code` is what the command line returns."""

    exit_code: int = 1

    def __str__(self) -> str:
        """The message, with "?" for control characters: keys and names that it quotes may come from a hostile file.

        >>> str(ThinsliceError("'a\\x1b[31m.nii' is empty."))
        "'a?[31m.nii' is empty."
        """
        return "".join(each if each.isprintable() or each == "\n" else "?" for each in super().__str__())


class ThinsliceWarning(UserWarning):
    """Category of the sentences that `thinslice.read` and `thinslice.upscale` also keep in `provenance.warnings`."""


def warn(sentences: Iterable[str], *, above: int = 1) -> None:
    """Issue sentences as Python warnings at the line of the user's call.

    Args:
        sentences: each becomes one warning.
        above: calls between this one and the user's line.
    """
    for sentence in sentences:
        warnings.warn(sentence, ThinsliceWarning, stacklevel=2 + above)


class UsageError(ThinsliceError):
    """Options that contradict each other, or a name that does not exist."""

    exit_code = 2


class ArgumentTypeError(UsageError, TypeError):
    """An argument of another type than the function takes; the message describes what it takes."""


class InputError(ThinsliceError):
    """The input is refused."""

    exit_code = 3


class UnreadableError(InputError):
    """Not a format that is read, or a damaged file."""


class DownloadError(InputError):
    """Cannot be fetched, or differs from the published file; the message gives the next step."""


TRAINING_PACKAGES = 'Training needs more packages; in a clone of the repository: pip install ".[train]".'
"""Message where they are missing; `make` installs them."""


class UnreachableError(InputError):
    """A store of objects does not answer; the same may succeed later, so a queue tries it again."""


class MissingExtraError(InputError):
    """The input is readable once an optional dependency is installed; the message names it."""


class GeometryError(InputError):
    """Positions, orientation or spacing do not describe one regular volume."""


class SeriesChoiceError(InputError):
    """Several series were found; one must be chosen."""


class NotEligibleError(InputError):
    """A sound volume that cannot be upscaled as asked; the message names a target spacing that works."""


class ModelError(ThinsliceError):
    """The network or its weights cannot be used."""

    exit_code = 4


class ShapeError(ModelError):
    """A depth, plane or factor the network cannot do."""


class CheckpointError(ModelError):
    """Weights that are damaged, hostile, or belong to another architecture."""


class OutputError(ThinsliceError):
    """The output cannot be written."""

    exit_code = 5


class OutputExistsError(OutputError):
    """The output exists, and overwriting was not requested."""


class OutputBusyError(OutputError):
    """Another run is writing the output; wait for it to end, or choose another output."""


class ResourceError(ThinsliceError):
    """Memory or disk is short."""

    exit_code = 6


class DeviceError(ThinsliceError):
    """This machine does not have the chosen device."""

    exit_code = 7


class PartlyDoneError(ThinsliceError):
    """Some items of a batch failed; the others are complete."""

    exit_code = 8
