"""Rates of upscaling, measured: seconds per MiB read, per million thin voxels made and written, and memory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from thinslice.recipes.checked import Checked
from thinslice.system.atomic import atomic_file

MIB: float = 2.0**20
MILLION = 1e6


class Sample(Checked):
    """One series that was upscaled.

    Attributes:
        read_mib: bytes of its files, in MiB.
        thin_mvoxels: voxels of the thin series, in millions.
        thick_mvoxels: voxels of the thick series, in millions.
        read_s, network_s, write_s, total_s: seconds of each part, and of the whole.
        peak_mib: highest memory of the process.
    """

    read_mib: float = Field(ge=0)
    thin_mvoxels: float = Field(gt=0)
    thick_mvoxels: float = Field(gt=0)
    read_s: float = Field(ge=0)
    network_s: float = Field(ge=0)
    write_s: float = Field(ge=0)
    total_s: float = Field(ge=0)
    peak_mib: float | None = None


class Rates(Checked):
    """Rates of one network on one kind of computer, in one process.

    Attributes:
        read_s_per_mib: seconds to read 1 MiB of files.
        network_s_per_mvoxel: seconds of the network for a million thin voxels.
        write_s_per_mvoxel: seconds of writing a million thin voxels; mostly while the network works.
        other_s: seconds of a series beside these.
        peak_mib: highest memory of a process.
        peak_thick_mvoxels: voxels of the largest thick series among those measured, in millions.
        series: number of series that were measured.
        measured_at_s: time of the last one, seconds since 1970.
        origin: "earlier run" or "measured now".
    """

    read_s_per_mib: float
    network_s_per_mvoxel: float
    write_s_per_mvoxel: float
    other_s: float
    peak_mib: float | None
    peak_thick_mvoxels: float
    series: int = Field(ge=1)
    measured_at_s: float
    origin: str = "earlier run"

    def seconds(self, *, read_mib: float, thin_mvoxels: float) -> float:
        """Seconds of one series in one process; what is written while the network works is not counted twice."""
        network_s = self.network_s_per_mvoxel * thin_mvoxels
        beside_s = max(0.0, self.write_s_per_mvoxel * thin_mvoxels - network_s)
        return self.read_s_per_mib * read_mib + network_s + beside_s + self.other_s

    def memory_mib(self, thick_mvoxels: float) -> float | None:
        """Highest memory of a process whose largest series has so many thick voxels.

        Windows have a fixed budget, so only the thick volume itself grows: two bytes a voxel, twice where the next one
        is read meanwhile.
        """
        if self.peak_mib is None:
            return None
        return self.peak_mib + 2 * 2 * max(0.0, thick_mvoxels - self.peak_thick_mvoxels / 2)


def rates_of(samples: Iterable[Sample], *, origin: str) -> Rates | None:
    """The rates of samples; None without any."""
    found = list(samples)
    if not found:
        return None
    thin = sum(sample.thin_mvoxels for sample in found)
    beside = [max(0.0, sample.total_s - sample.read_s - max(sample.network_s, sample.write_s)) for sample in found]
    peaks = [sample.peak_mib for sample in found if sample.peak_mib is not None]
    return Rates(
        read_s_per_mib=sum(sample.read_s for sample in found) / max(1e-6, sum(sample.read_mib for sample in found)),
        network_s_per_mvoxel=sum(sample.network_s for sample in found) / thin,
        write_s_per_mvoxel=sum(sample.write_s for sample in found) / thin,
        other_s=sum(beside) / len(beside),
        peak_mib=max(peaks, default=None),
        peak_thick_mvoxels=max(sample.thick_mvoxels for sample in found),
        series=len(found),
        measured_at_s=time.time(),
        origin=origin,
    )


@dataclass(frozen=True)
class RatesFile:
    """Rates that are kept from run to run, by what they depend on.

    Attributes:
        path: JSON file; it need not exist.
    """

    path: Path

    def get(self, key: str) -> Rates | None:
        """The rates under a key (`rates_key`); None where there are none."""
        try:
            return Rates.model_validate(self._all().get(key))
        except ValidationError:
            return None

    def put(self, key: str, rates: Rates) -> None:
        """Keep rates under a key."""
        import json

        values = {**self._all(), key: rates.model_copy(update={"origin": "earlier run"}).model_dump(mode="json")}
        with atomic_file(self.path, overwrite=True) as partial:
            partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def _all(self) -> dict[str, Any]:
        import json

        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


def rates_key(model: str, device: str, threads: int) -> str:
    """What rates depend on: the network, the processor, the device and the threads of a process."""
    from thinslice.system.cores import processor

    return f"{model} | {processor()} | {device} | {threads}"
