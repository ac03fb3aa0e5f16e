"""Store of finished results, one JSON file each, from which an interrupted run continues.

A result is identified by all inputs of its scores (`Identity`); a changed weights file, case or plan is another
result. Files are written atomically.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from thinslice.errors import OutputError
from thinslice.options import option
from thinslice.system.atomic import atomic_file

SCHEMA = "thinslice-result/1"
"""Value of `schema`; a result of another schema is computed again."""

_IDENTITY = "identity"
"""Name of the array with the identity among stored arrays."""


@dataclass(frozen=True)
class Identity:
    """Inputs that determine the scores of a method on a case.

    Attributes:
        method: name of a network or an interpolation.
        weights_sha256: of its weights; None without weights.
        adapt_steps: of test-time adaptation.
        case_id: the case.
        case_digest: of its files, and of the simulation of thick slices.
        protocol: of scoring.
        plan: requested window plan; None for the network's own.
        factor: requested; None for the pair's own.
        device: kind of device, on which rounding and time depend.
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
        return hashlib.sha256(_as_text(self).encode()).hexdigest()[:24]


class Outcome(BaseModel):
    """Scores of a method on a case under a protocol, with cost and provenance.

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
        consistency_rms_hu: the estimate averaged over the slice profile against the thick slices.
        device: that ran.
        device_name: its make.
        threads: requested CPU threads; None for the library's own choice.
        commit: of the code; None for an installed package.
        made: time, UTC.
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
    """Results below a folder, which is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, identity: Identity) -> Outcome | None:
        """A finished result, or None where there is none or it is damaged."""
        try:
            outcome = Outcome.model_validate_json((self.folder / f"{identity.key}.json").read_bytes())
        except (OSError, ValidationError):
            return None
        # Two identities may share a truncated digest, however unlikely.
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

    def find_values(self, identity: Identity) -> dict[str, Any] | None:
        """Stored JSON values of an identity whose protocol is none of scoring, or None."""
        try:
            kept = json.loads((self.folder / f"values-{identity.key}.json").read_bytes())
            return dict(kept["values"]) if kept[_IDENTITY] == asdict(identity) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_values(self, identity: Identity, values: Mapping[str, Any]) -> None:
        """Store JSON values under an identity.

        Raises:
            OutputError, ResourceError: they cannot be written.
        """
        self._make()
        text = json.dumps({_IDENTITY: asdict(identity), "values": values}, indent=1, allow_nan=False) + "\n"
        with atomic_file(self.folder / f"values-{identity.key}.json", overwrite=True) as part:
            part.write_text(text, encoding="utf-8")

    def find_cuts(self, name: str, identity: Identity) -> dict[str, npt.NDArray[Any]] | None:
        """Stored arrays of a name, or None where there are none, or those of another identity."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as kept:
                if str(kept[_IDENTITY]) != _as_text(identity):
                    return None
                return {key: kept[key] for key in kept.files if key != _IDENTITY}
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return None

    def keep_cuts(self, name: str, identity: Identity, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Store arrays under a name, with the identity of the scores that they belong to.

        Raises:
            OutputError, ResourceError: they cannot be written.
        """
        self._make()
        with atomic_file(self.folder / f"{name}.npz", overwrite=True) as part, part.open("wb") as stream:
            np.savez_compressed(stream, **arrays, **{_IDENTITY: np.array(_as_text(identity))})  # type: ignore[arg-type]

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Cannot make the folder {self.folder.name!r}; choose another {option('out')}."
            ) from error


def _as_text(identity: Identity) -> str:
    return json.dumps(asdict(identity), sort_keys=True)
