"""The resumable state of a run: one file, replaced atomically; only tensors are unpickled.

The file is a zip archive, whose checksums torch writes and does not check. They are checked here, before anything is
read from it.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from thinslice.errors import UnreadableError, UsageError
from thinslice.options import option
from thinslice.recipes import TrainRecipe
from thinslice.recipes.continuation import as_text, differences, values_of
from thinslice.system.atomic import atomic_file
from thinslice.training.optimiser import RunningAverage, Span, ValidationHistory

STATE_FILE = "state.pt"

_DAMAGE = (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, NotImplementedError)


@dataclass(frozen=True)
class Origin:
    """What a run is made from. A folder holds one run, and its state is read only for the same one.

    Attributes:
        recipe: recipe of this call.
        initial_sha256: of the weights that it began with; "" for random ones, None where nobody asks.
        passes_count: whether `optimiser.micro_batch` changes the weights.
        data: digest of the voxels of each case (`Sources.digests`); None before the data are open.
    """

    recipe: TrainRecipe
    initial_sha256: str | None = None
    passes_count: bool = True
    data: tuple[str, ...] | None = None

    def check(self, state: dict[str, Any], out: Path) -> None:
        """Refuse the state of another run.

        Raises:
            UsageError: naming the values that differ; restore them, or choose another folder.
        """
        elsewhere = f"restore it in the recipe, or choose another {option('out')} folder"
        if "recipe" not in state:
            raise UsageError(
                f"{out} holds a run of an earlier version, whose state does not record its recipe; finish it with that "
                f"version, or choose another {option('out')} folder."
            )
        found = differences(state["recipe"], self.recipe, passes_count=self.passes_count)
        if found:
            raise UsageError(f"{out} holds a run of another recipe: {as_text(found)}; {elsewhere}.")
        if self.recipe.optimiser.steps < state["step"]:
            raise UsageError(
                f"{out} holds a run that has done {state['step']} steps, more than optimiser.steps = "
                f"{self.recipe.optimiser.steps}, which can only be raised; {elsewhere}."
            )
        if self.initial_sha256 is not None and self.initial_sha256 != state["initial"]:
            raise UsageError(
                f"{out} holds a run that began with other weights; remove the folder to train again from these, or "
                f"choose another {option('out')} folder."
            )

    def with_data(self, digests: Sequence[str], cases: Sequence[str], out: Path) -> Origin:
        """The origin with the data that were opened.

        Args:
            digests: of each case, in order.
            cases: name of each case.
            out: folder of the run.

        Raises:
            UsageError: they are not the data that the run began with; the message names a case.
        """
        if self.data is not None and tuple(digests) != self.data:
            other = [case for case, digest in zip(cases, digests, strict=True) if digest not in self.data]
            named = f"case {other[0]} has other voxels" if other else "cases were removed, or have another order"
            raise UsageError(
                f"The training data differ from those that the run in {out} began with: {named}; restore the data, or "
                f"choose another {option('out')} folder."
            )
        return replace(self, data=tuple(digests))


@dataclass
class Run:
    """The part of a run that changes during training.

    Attributes:
        origin: what it is made from.
        network: network that is trained.
        average: running average of its weights.
        optimiser: optimiser with its moments.
        history: the validations so far.
        step: optimiser steps done.
        losses: losses since the last line of the log.
        finished: whether the run has ended, early or not.
        schedule: spans of steps with the length of the recipe in each; more than one where the run was lengthened.
    """

    origin: Origin
    network: torch.nn.Module
    average: RunningAverage
    optimiser: torch.optim.Optimizer
    history: ValidationHistory
    step: int = 0
    losses: tuple[float, ...] = ()
    finished: bool = False
    schedule: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.schedule:
            self.schedule = [Span(0, self.origin.recipe.optimiser.steps)]

    def save(self, out: Path, fabric: Fabric) -> None:
        """Write the state; only the first process writes."""
        if not fabric.is_global_zero:
            return
        state = {
            "recipe": values_of(self.origin.recipe),
            "initial": self.origin.initial_sha256 or "",
            "data": None if self.origin.data is None else list(self.origin.data),
            "schedule": [list(span) for span in self.schedule],
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
            UsageError: when the folder holds another run; restore the values that the message names, or choose another
                folder.
            UnreadableError: when the file is damaged; remove it to start again.
        """
        path = out / STATE_FILE
        if not path.exists():
            return False
        try:
            _check(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self.origin.check(state, out)
            self._restore(state, fabric)
        except (*_DAMAGE, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise UnreadableError(
                f"The training state in {out.name} is damaged; remove {STATE_FILE} to start that run again."
            ) from error
        return True

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or validation has not improved for as long as the recipe waits."""
        recipe = self.origin.recipe
        return self.step >= recipe.optimiser.steps or self.history.waiting >= (recipe.validation.patience or math.inf)

    @property
    def is_lengthened(self) -> bool:
        """Whether the number of steps was changed on the way."""
        return len(self.schedule) > 1

    def _restore(self, state: dict[str, Any], fabric: Fabric | None) -> None:
        self.network.load_state_dict(state["network"])
        if self.average.decay:
            self.average.network.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = ValidationHistory(**state["judge"])
        self.step, self.losses = state["step"], tuple(state["losses"])
        data = state["data"]
        self.origin = replace(self.origin, data=None if data is None else tuple(data))
        self.schedule = [Span(*span) for span in state["schedule"]]
        recipe = self.origin.recipe
        if recipe.optimiser.steps != self.schedule[-1].steps:
            self.schedule.append(Span(self.step, recipe.optimiser.steps))
        # By this recipe: one with more steps or patience goes on.
        self.finished = state["finished"] and self.is_over
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
