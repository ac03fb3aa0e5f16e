"""Finished results on disk, one JSON file each, so that a run that was killed goes on where it was.

A result is found again by everything that decides its scores (`Identity`); a changed weights file, case or plan is
another result. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from thinslice.errors import OutputError
from thinslice.system.atomic import atomic_file

SCHEMA = "thinslice-result/1"
"""Value of `schema`; another one is not read but made anew."""


@dataclass(frozen=True)
class Identity:
    """Everything that decides the scores of a method on a case.

    Attributes:
        method: what runs: a network's name, or that of an interpolation.
        weights_sha256: of its weights; None without weights.
        adapt_steps: of test-time adaptation.
        case_id: the case.
        case_digest: of its files, and of how thick slices were simulated.
        protocol: of scoring.
        plan: window plan asked for; None for the network's own.
        factor: asked for; None for the pair's own.
        device: kind of device: another one rounds, and takes time, otherwise.
        version: of thinslice.
    """

    method: str
    weights_sha256: str | None
    adapt_steps: int
    case_id: str
    case_digest: str
    protocol: str
    plan: str | None
    factor: int | None
    device: str
    version: str

    @property
    def key(self) -> str:
        """Name of its file: 24 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


class Outcome(BaseModel):
    """Scores of a method on a case under a protocol, what they took, and how they were made.

    Attributes:
        schema_name: `schema` in the file.
        identity: see `Identity`.
        psnr: dB; None for identical volumes.
        ssim: mean over slices.
        ssim_per_slice: in depth order.
        slices_scored: their number.
        clinical: measures of that protocol, for it alone.
        plan: that ran.
        factor: thin slices per thick interval.
        cost: as `thinslice.experiments.benchmark.cost.Cost`.
        consistency_rms_hu: thick slices made again against the real ones.
        device: that ran.
        device_name: its make.
        threads: CPU threads asked for; None for the library's own choice.
        commit: of the code; None for an installed package.
        made: when, UTC.
        warnings: sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    schema_name: str = SCHEMA
    identity: dict[str, Any]
    psnr: float | None
    ssim: float
    ssim_per_slice: tuple[float, ...]
    slices_scored: int
    clinical: dict[str, Any] | None = None
    plan: str
    factor: int
    cost: dict[str, float | int | None]
    consistency_rms_hu: float | None
    device: str
    device_name: str
    threads: int | None = None
    commit: str | None = None
    made: str
    warnings: tuple[str, ...] = ()

    @property
    def psnr_db(self) -> float:
        """PSNR in dB, infinite for identical volumes."""
        return float("inf") if self.psnr is None else self.psnr


class Store:
    """Results below a folder, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, identity: Identity) -> Outcome | None:
        """A finished result, or None where there is none that can be read."""
        try:
            outcome = Outcome.model_validate_json((self.folder / f"{identity.key}.json").read_bytes())
        except (OSError, ValidationError):
            return None
        # A truncated digest may name another identity, however unlikely.
        return outcome if outcome.identity == asdict(identity) and outcome.schema_name == SCHEMA else None

    def keep(self, identity: Identity, outcome: Outcome) -> None:
        """Write a finished result.

        Raises:
            OutputError, ResourceError: it cannot be written.
        """
        self._make()
        text = json.dumps(outcome.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
        with atomic_file(self.folder / f"{identity.key}.json", overwrite=True) as part:
            part.write_text(text, encoding="utf-8")

    def find_cuts(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Arrays kept under a name, or None."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as kept:
                return {key: kept[key] for key in kept.files}
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return None

    def keep_cuts(self, name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Keep arrays under a name.

        Raises:
            OutputError, ResourceError: they cannot be written.
        """
        self._make()
        with atomic_file(self.folder / f"{name}.npz", overwrite=True) as part, part.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot make the folder {self.folder.name!r}; choose another --out.") from error
