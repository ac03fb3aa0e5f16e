"""A hospital's archive in small: studies of a thick and a thin reconstruction of one scan, canaries in every header."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from support.dicom_factory import write_series

PLANE = (24, 24)


def anatomy(seed: int, depth: int = 30) -> npt.NDArray[np.float64]:
    """Whole HU that change from slice to slice and differ between seeds."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, (depth + 4, *PLANE))
    smooth = sum(noise[k : k + depth] for k in range(4))
    return np.rint(np.clip(120.0 * smooth, -1000, 1500))


def averages(thin: npt.NDArray[Any], factor: int, first: int) -> npt.NDArray[np.float64]:
    """Means of `factor` thin slices (odd), the first around thin slice `first`."""
    half = factor // 2
    centres = range(first, len(thin) - half, factor)
    return np.rint(np.stack([thin[c - half : c + half + 1].mean(0) for c in centres]))


def write_scan(
    folder: Path,
    seed: int,
    *,
    patient: str | None = None,
    factor: int = 5,
    first: int = 2,
    thin: dict[str, Any] | None = None,
    thick: dict[str, Any] | None = None,
    hu: npt.NDArray[Any] | None = None,
    study_seed: int | None = None,
    numbers: tuple[int, int] = (3, 4),
) -> Any:
    """Write one study: a thin series, and a thick one whose slice k is the mean around thin slice factor * k + first.

    Args:
        folder: gets thick/ and thin/.
        seed: of anatomy and UIDs.
        patient: PatientID; one of its own for every seed when None.
        factor, first: how thick slices lie.
        thin, thick: for one series: options of `write_series`, or header attributes by keyword.
        hu: the thin slices; anatomy of the seed when None.
        study_seed: of StudyInstanceUID; the seed when None.
        numbers: SeriesNumber of the thick and of the thin series.

    Returns:
        The two outcomes of `write_series`, by name.
    """
    from types import SimpleNamespace

    from pydicom.uid import generate_uid

    source = anatomy(seed) if hu is None else hu
    study_uid = generate_uid(entropy_srcs=["hospital", str(seed if study_seed is None else study_seed)])
    written = {}
    for name, number, options in (("thick", numbers[0], thick or {}), ("thin", numbers[1], thin or {})):
        given = {key: value for key, value in options.items() if not key[0].isupper()}
        tags = {key: value for key, value in options.items() if key[0].isupper()}
        step = float(factor) if name == "thick" else 1.0
        arguments: dict[str, Any] = {
            "hu": averages(source, factor, first) if name == "thick" else source,
            "spacing_mm": (step, 0.7, 0.7),
            "origin_mm": (-10.0, -20.0, 100.0 + (first if name == "thick" else 0)),
            "seed": seed * 100 + number,
            "study_uid": study_uid,
            "edit": _editor(patient or f"CANARY-ID-{seed}", number, tags),
            **given,
        }
        arguments["shape"] = np.shape(arguments["hu"])
        written[name] = write_series(folder / name, **arguments)
    return SimpleNamespace(**written, study_uid=study_uid)


def _editor(patient: str, number: int, tags: dict[str, Any]) -> Callable[[Any, int], None]:
    def edit(dataset: Any, index: int) -> None:
        dataset.PatientID, dataset.SeriesNumber = patient, number
        dataset.AcquisitionTime = "101500.25"
        for key, value in tags.items():
            if value is None:
                delattr(dataset, key)
            else:
                setattr(dataset, key, value)

    return edit
