"""The resumable state of a run: one file, replaced atomically; only tensors are unpickled.

The file is a zip archive, whose checksums torch writes and does not check. They are checked here, before anything is
read from it.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from thinslice.errors import UnreadableError, UsageError
from thinslice.options import option
from thinslice.system.atomic import atomic_file
from thinslice.training.optimiser import RunningAverage, ValidationHistory

STATE_FILE = "state.pt"

_DAMAGE = (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, NotImplementedError)


@dataclass
class Run:
    """The part of a run that changes during training.

    Attributes:
        key: key of recipe and stage; a folder holds one run.
        network: network that is trained.
        average: running average of its weights.
        optimiser: optimiser with its moments.
        history: the validations so far.
        step: optimiser steps done.
        losses: losses since the last line of the log.
        finished: whether the run has ended, early or not.
    """

    key: str
    network: torch.nn.Module
    average: RunningAverage
    optimiser: torch.optim.Optimizer
    history: ValidationHistory
    step: int = 0
    losses: tuple[float, ...] = ()
    finished: bool = False

    def save(self, out: Path, fabric: Fabric) -> None:
        """Write the state; only the first process writes."""
        if not fabric.is_global_zero:
            return
        state = {
            "key": self.key,
            "step": self.step,
            "losses": list(self.losses),
            "finished": self.finished,
            "judge": asdict(self.history),
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict() if self.average.decay else {},
            "optimiser": self.optimiser.state_dict(),
            "precision": precision_state(fabric),
        }
        # Through memory: torch reports a full disk as an error of its own.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_file(out / STATE_FILE, overwrite=True) as part, part.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())

    def load(self, out: Path, fabric: Fabric | None = None) -> bool:
        """Restore the saved state of a folder; returns False when there is none.

        Raises:
            UsageError: when the folder holds a run of another recipe; choose another folder.
            UnreadableError: when the file is damaged; remove it to start again.
        """
        path = out / STATE_FILE
        if not path.exists():
            return False
        try:
            _check(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if state["key"] == self.key:
                self._restore(state, fabric)
                return True
        except (*_DAMAGE, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise UnreadableError(
                f"The training state in {out.name} is damaged; remove {STATE_FILE} to start that run again."
            ) from error
        raise UsageError(f"{out} holds a run of another recipe; choose another {option('out')} folder or remove it.")

    def _restore(self, state: dict[str, Any], fabric: Fabric | None) -> None:
        self.network.load_state_dict(state["network"])
        if self.average.decay:
            self.average.network.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = ValidationHistory(**state["judge"])
        self.step, self.losses, self.finished = state["step"], tuple(state["losses"]), state["finished"]
        if fabric is not None and state["precision"]:
            fabric._precision.load_state_dict(state["precision"])


def _check(path: Path) -> None:
    """Check every byte of the state's records against its checksum.

    Raises:
        zipfile.BadZipFile, EOFError, ValueError: it is no archive, or a record is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise zipfile.BadZipFile("torch stores its records")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)


def precision_state(fabric: Fabric) -> dict[str, Any]:
    """The loss scale of half precision, empty for other precisions; Fabric has no public name for it."""
    return dict(fabric._precision.state_dict())
