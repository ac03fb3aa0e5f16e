"""What a folder of CT, as scanners and people leave it, must be read as, and what the writers of such folders share.

Each module `habits_of_*.py` fills a `Habits`; `tests/io/dicom/test_habits.py` reads every folder and has SimpleITK and
dcm2niix read it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset

from support.dicom_factory import write_series

Edit = Callable[[FileDataset, int], None]

SMALL = (6, 20, 24)
"""Slices, rows, columns."""


@dataclass(frozen=True)
class Habit:
    """One way in which CT is written.

    Attributes:
        write: writes the folder.
        read: whether a volume is read (of the series that is chosen by itself, or by `series`); else it is refused.
        says: what the refusal, or a warning, must hold; "" for a reading without any warning, None for any.
        series: which series, as `--series` takes it.
        slices: of the volume.
        simpleitk, dcm2niix: why this reader has another volume; "" where it must agree.
    """

    write: Callable[[Path], Any]
    read: bool = True
    says: str | None = ""
    series: str | None = None
    slices: int = SMALL[0]
    simpleitk: str = ""
    dcm2niix: str = ""


class Habits(dict[str, Habit]):
    """Habits by name."""

    def add(self, **facts: Any) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
        """Decorates a function that writes a folder: its habit, named as the function is."""

        def keep(write: Callable[[Path], Any]) -> Callable[[Path], Any]:
            self[write.__name__] = Habit(write, **facts)
            return write

        return keep


def setting(**values: Any) -> Edit:
    """Sets attributes of every slice; None removes one."""

    def edit(dataset: FileDataset, _: int) -> None:
        for keyword, value in values.items():
            if value is None:
                if keyword in dataset:
                    del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return edit


def typed_as(dataset: FileDataset, keyword: str, vr: str, value: str) -> None:
    """A value as it is typed, whatever DICOM allows."""
    tag, typed = pydicom.tag.Tag(keyword), value.encode()
    dataset[tag] = RawDataElement(tag, vr, len(typed) + len(typed) % 2, typed + b" " * (len(typed) % 2), 0, False, True)


def series(folder: Path, **facts: Any) -> Any:
    """A series as `write_series` makes it, of the shape `SMALL`."""
    facts.setdefault("shape", SMALL)
    return write_series(folder, **facts)
