"""Names of folders and files that identify nobody, and stand-ins for all others: people name files after patients."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePath, PurePosixPath

NEUTRAL_WORDS = re.compile(
    r"a|axial|b|body|c|case|chest|coronal|ct|data|dataset|day|dicom|exam|exams|export|file|followup|head|image"
    r"|images|img|input|look|lung|mm|nifti|p|page|pat|patient|patients|pelvis|post|pre|report|s|sagittal|scan|scans|se|sequence|ser"
    r"|series|ses|session|soft|st|studies|study|sub|subj|subject|test|thick|thin|thorax|timepoint|tp|train|val"
    r"|view|viewer|visit|vol|volume|x",
    re.IGNORECASE,
)
"""Words in names of folders and files that name no patient."""

NEUTRAL_DIGITS = 4
"""Most digits in a neutral name: dates and numbers of patients have more."""

KEPT_SUFFIXES = frozenset(
    (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
)
"""Suffixes of files that thinslice reads."""


def is_neutral(name: str) -> bool:
    """Whether the name of a folder or file identifies nobody: common words and few digits.

    >>> is_neutral("case_003"), is_neutral("chest 5mm"), is_neutral("Doe_Jane"), is_neutral("20190312")
    (True, True, False, False)
    """
    words = re.findall(r"[^\W\d_]+", name)
    others = re.sub(r"[^\W\d_]+|\d+|[-_ .]", "", name)
    digits = sum(character.isdigit() for character in name)
    return not others and digits <= NEUTRAL_DIGITS and all(NEUTRAL_WORDS.fullmatch(word) for word in words)


def are_neutral(relative: PurePath) -> bool:
    """Whether every part of a place is a neutral name."""
    return all(is_neutral(part) for part in relative.parts)


def neutral_place(relative: PurePath) -> PurePosixPath:
    """The place of a file below a folder: as it is where its names are neutral, else digests of them.

    The same place has the same digests in every run, so two lists of one folder can be compared.

    Args:
        relative: the file's place below the folder.

    >>> neutral_place(PurePosixPath("case_02/thick.nii.gz")).as_posix()
    'case_02/thick.nii.gz'
    >>> neutral_place(PurePosixPath("case_02/Doe_Jane.nii.gz")).as_posix()
    'case_02/volume-1ca79f2147.nii.gz'
    """
    suffix = suffix_of(relative.name)
    suffix = suffix if suffix in KEPT_SUFFIXES else ""  # what follows a dot may be a name too
    stem = relative.name[: len(relative.name) - len(suffix)]
    parent = relative.parent
    folder = parent.as_posix() if are_neutral(parent) else f"folder-{digest_of((parent.as_posix(),))}"
    shown = stem if is_neutral(stem) else f"volume-{digest_of((relative.as_posix(),))}"
    return PurePosixPath(folder, f"{shown}{suffix}")


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case; that of packed NIfTI has two parts.

    >>> suffix_of("Chest.NII.GZ"), suffix_of("chest.nii"), suffix_of("disc.zip")
    ('.nii.gz', '.nii', '.zip')
    """
    lower = name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


def digest_of(values: tuple[str, ...]) -> str:
    """Ten hexadecimal digits that stand for texts."""
    return hashlib.sha256(json.dumps(values).encode("utf-8", "surrogatepass")).hexdigest()[:10]
