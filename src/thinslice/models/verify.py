"""Check of the embedded weights against the list of digests that they were released with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thinslice.models.catalog import WEIGHTS_FOLDER
from thinslice.system.files import sha256_of

LIST = "SHA256SUMS"
"""The list beside the weights, in the form of `sha256sum`."""

State = Literal["intact", "changed", "missing", "not listed"]


@dataclass(frozen=True)
class Verified:
    """A weights file against the list.

    Attributes:
        name: name of the file.
        state: "intact"; "changed" where the digest differs; "missing"; "not listed" for a file of no release.
        sha256: of the file, hexadecimal; None where it is missing.
    """

    name: str
    state: State
    sha256: str | None


def verify(folder: Path = WEIGHTS_FOLDER) -> tuple[Verified, ...]:
    """Compare every weights file of a folder with its list; files by name.

    Args:
        folder: with `SHA256SUMS` and *.safetensors; by default the package's own.
    """
    found: dict[str, str] = {path.name: sha256_of(path) for path in sorted(folder.glob("*.safetensors"))}
    listed: dict[str, str] = {}
    if (folder / LIST).is_file():
        lines = (folder / LIST).read_text(encoding="ascii").splitlines()
        listed = {name: digest for digest, name in (line.split() for line in lines)}
    return tuple(
        Verified(name, _state(listed.get(name), found.get(name)), found.get(name)) for name in sorted({*found, *listed})
    )


def _state(listed: str | None, found: str | None) -> State:
    if found is None:
        return "missing"
    if listed is None:
        return "not listed"
    return "intact" if found == listed else "changed"
