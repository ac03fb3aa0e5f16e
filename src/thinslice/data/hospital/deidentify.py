"""De-identification: pseudonyms, words from short lists, and sentences without file names.

No text of a header is copied into a data set. A pseudonym is a keyed hash (HMAC-SHA-256) of the real name: without the
key, it can neither be reversed nor compared with a guess.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from thinslice.errors import InputError, OutputError
from thinslice.system.atomic import output_errors

KEY_BYTES = 32

_MAKERS = {
    "siemens": "Siemens",
    "philips": "Philips",
    "ge": "GE",
    "general": "GE",
    "toshiba": "Canon",
    "canon": "Canon",
    "hitachi": "Fujifilm",
    "fujifilm": "Fujifilm",
    "neusoft": "Neusoft",
    "uih": "United Imaging",
    "united": "United Imaging",
    "neurologica": "NeuroLogica",
    "picker": "Philips",
    "marconi": "Philips",
    "elscint": "Philips",
}
"""Manufacturers by the first word of their name; a company that was taken over has the name of its new owner."""

_KERNEL = re.compile(r"[A-Z0-9][A-Z0-9 _+./-]{0,15}")
_SIEMENS = re.compile(r"([A-Z]{1,2})(\d)\d[A-Z]*")
_CANON = re.compile(r"(FC)(\d)\d[A-Z]*")
_SOFT_NAMES = frozenset({"STANDARD", "STND", "SOFT", "DETAIL", "A", "B", "C"})


class Pseudonyms:
    """Pseudonyms under one secret key; one real name always has the same pseudonym.

    Args:
        key: secret key from `new_key`.

    >>> names = Pseudonyms(bytes(32))
    >>> names.patient("4711") == names.patient(" 4711 "), names.patient("4711") == names.patient("4712")
    (True, False)
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def patient(self, identity: str) -> str:
        """The pseudonym of a patient; case and surrounding blanks are ignored."""
        return "p" + self._digest("patient", identity.strip().casefold())[:12]

    def study(self, uid: str) -> str:
        """The pseudonym of a study."""
        return "s" + self._digest("study", uid.strip())[:12]

    def _digest(self, kind: str, identity: str) -> str:
        return hmac.new(self._key, f"{kind}\0{identity}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def new_key(path: Path) -> bytes:
    """The secret key in a file, created from the system's random source when missing.

    Only its owner can read the file.

    Raises:
        InputError: the file holds no key; name another.
        OutputError: the file cannot be written.
    """
    with output_errors(path):
        if not path.exists():
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError as error:
                raise OutputError(f"The folder of {path.name!r} does not exist; create it first.") from error
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(KEY_BYTES) + "\n")
    text = ""
    try:
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(f"{path.name!r} holds no key of {2 * KEY_BYTES} hexadecimal digits; name another file.")
    return key


def maker(manufacturer: str) -> str:
    """The manufacturer, from a short list; "other" for any other text.

    >>> maker("SIEMENS Healthineers"), maker("GE MEDICAL SYSTEMS"), maker("Dr. Who"), maker("")
    ('Siemens', 'GE', 'other', 'unknown')
    """
    words = re.findall(r"[a-z]+", manufacturer.lower())
    return _MAKERS.get(words[0], "other") if words else "unknown"


def kernel_name(kernel: str) -> str:
    """The reconstruction kernel in capitals, without the strength of an iterative method; "" for other text.

    >>> kernel_name("Br40d\\\\3"), kernel_name("B"), kernel_name("see comment of the radiologist")
    ('BR40D', 'B', '')
    """
    first = kernel.split("\\")[0].strip().upper()
    return first if _KERNEL.fullmatch(first) else ""


def kernel_family(manufacturer: str, kernel: str) -> str:
    """The family of a kernel, whose members are about equally sharp: its name, for numbered kernels without the ones.

    Args:
        manufacturer: result of `maker`.
        kernel: result of `kernel_name`.

    >>> kernel_family("Siemens", "B30F"), kernel_family("Siemens", "B31F"), kernel_family("Siemens", "B70F")
    ('B3x', 'B3x', 'B7x')
    >>> kernel_family("Canon", "FC18"), kernel_family("GE", "STANDARD"), kernel_family("Philips", "")
    ('FC1x', 'STANDARD', '')
    """
    numbered = {"Siemens": _SIEMENS, "Canon": _CANON}.get(manufacturer)
    match = numbered.fullmatch(kernel) if numbered else None
    return f"{match[1]}{match[2]}x" if match else kernel


def is_soft(manufacturer: str, kernel: str) -> bool:
    """Whether a kernel is for soft tissue, by its name.

    >>> is_soft("Siemens", "B30F"), is_soft("Siemens", "B70F"), is_soft("GE", "LUNG"), is_soft("Canon", "FC08")
    (True, False, False, True)
    """
    if manufacturer == "Siemens" and (match := _SIEMENS.fullmatch(kernel)):
        return int(match[2]) <= 4
    if manufacturer == "Canon" and (match := _CANON.fullmatch(kernel)):
        return int(match[2]) <= 1
    return kernel in _SOFT_NAMES


def without_names(sentence: str, names: Iterable[str]) -> str:
    """A sentence without file names, which may contain patients' names.

    >>> without_names("1 slice cannot be read, such as 'DOE_JANE.dcm' (truncated).", ["DOE_JANE.dcm"])
    '1 slice cannot be read, such as a file (truncated).'
    """
    # Long names first: one may be part of another.
    for name in sorted({name for name in names if name}, key=len, reverse=True):
        sentence = sentence.replace(repr(name), "a file").replace(name, "a file")
    return sentence
