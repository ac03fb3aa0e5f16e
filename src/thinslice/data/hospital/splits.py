"""Assignment of patients to splits: by a seed, each patient in one split, earlier assignments kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from thinslice.errors import UsageError

SPLITS = ("train", "val", "test")


def check_fractions(fractions: tuple[float, ...]) -> dict[str, float]:
    """Shares of train, val and test by name, without shares of 0.

    Raises:
        UsageError: not three numbers from 0 to 1 that add up to 1.

    >>> check_fractions((0.8, 0.0, 0.2))
    {'train': 0.8, 'test': 0.2}
    """
    if len(fractions) != len(SPLITS) or any(not 0 <= share <= 1 for share in fractions):
        raise UsageError("The shares of train, val and test are three numbers from 0 to 1, such as 0.7,0.1,0.2.")
    if not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise UsageError(f"The shares of train, val and test add up to {sum(fractions):g}; they must add up to 1.")
    return {name: share for name, share in zip(SPLITS, fractions, strict=True) if share > 0}


def assign_splits(
    patients: Mapping[str, str], fractions: Mapping[str, float], *, seed: int, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A split for each patient.

    The seed decides the order of patients; each goes into the split that lacks most. The numbers of patients are as
    near to the shares as possible, also when a set grows around earlier assignments.

    Args:
        patients: name -> constant text that does not identify the patient, such as a checksum of the volumes; the order
            depends only on this text and the seed.
        fractions: share of each split; the shares add up to 1.
        seed: seed of the order.
        fixed: earlier assignments, which are kept.

    >>> names = {f"p{n}": str(n) for n in range(10)}
    >>> found = assign_splits(names, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1)
    >>> [sum(split == name for split in found.values()) for name in ("train", "val", "test")]
    [7, 1, 2]
    """
    assigned = {patient: split for patient, split in (fixed or {}).items() if patient in patients}
    counts = {split: sum(there == split for there in assigned.values()) for split in fractions}
    order = sorted(
        (patient for patient in patients if patient not in assigned),
        key=lambda patient: hashlib.sha256(f"{seed}\0{patients[patient]}".encode()).digest(),
    )
    total = len(patients)
    for patient in order:
        # Of equal splits the first, so that a single patient is in train.
        split = max(fractions, key=lambda name: fractions[name] * total - counts[name])
        counts[split] += 1
        assigned[patient] = split
    return assigned
