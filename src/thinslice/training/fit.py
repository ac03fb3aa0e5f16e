"""The training loop: one, readable, resumable.

A run is a folder with `state.pt` (our own training state, replaced atomically), `log.csv` and, at the end,
`<name>.safetensors`. Started again, it goes on where the state was saved: crops depend on seed and step alone, so the
continued run sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

import csv
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

import thinslice
from thinslice.data.crops import Batch, CropSampler
from thinslice.errors import DeviceError, ModelError, UnreadableError, UsageError
from thinslice.inference.backend import keep_freed_memory
from thinslice.io.atomic import atomic_file
from thinslice.io.files import read
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.recipes import TrainRecipe
from thinslice.training.module import RunningAverage, huber_hu, learning_rate
from thinslice.volume import Volume

_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True)
class Progress:
    """One line of the log.

    Attributes:
        step: optimiser steps done.
        steps: of how many.
        loss: mean since the last line.
        seconds_left: estimate.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float


def fit(
    recipe: TrainRecipe,
    out: Path,
    *,
    data_root: Path,
    device: str = "auto",
    threads: int | None = None,
    stop_after_s: float | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Path | None:
    """Train as the recipe says, or go on with a run that was interrupted.

    Args:
        recipe: what to do.
        out: folder of the run; made when missing.
        data_root: folder that the recipe's relative data paths start from.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None for torch's default.
        stop_after_s: save the state and return after so many seconds; None to go on to the end.
        report: called with each line of the log.

    Returns:
        The weights file, or None when stopped before the end.

    Raises:
        UsageError: when the folder holds a run of another recipe.
        UnreadableError: when a data path holds no volume.
        ModelError: when the loss stops being finite; the last saved state is kept.
        DeviceError: when the device is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("The device 'cuda' is not available on this machine; use --device cpu or auto.")
    keep_freed_memory()
    fabric = Fabric(accelerator=device, devices=1, precision=recipe.precision)
    fabric.seed_everything(recipe.seed, verbose=False)
    bare = catalog.build(recipe.network.name, **recipe.network.config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(bare.parameters(), lr=0.0, weight_decay=recipe.optimiser.weight_decay)
    average = RunningAverage(bare, recipe.optimiser.average)
    first = _resume(out / "state.pt", recipe, bare, average, optimiser)
    average.network.to(fabric.device)
    network, optimiser_wrapped = fabric.setup(bare, optimiser)
    sampler = CropSampler(
        list(_volumes(recipe, data_root)), recipe.simulation, batch=recipe.optimiser.batch, seed=recipe.seed
    )

    started = saved = time.monotonic()
    losses: list[float] = []
    for step, batch in _prefetched(sampler, first, recipe.optimiser.steps):
        for group in optimiser_wrapped.param_groups:
            group["lr"] = learning_rate(step, recipe.optimiser)
        thick, thin, weight = (fabric.to_device(torch.from_numpy(a)) for a in (batch.thick, batch.thin, batch.weight))
        estimate = network(thick, factor=batch.factor, profile=batch.profile)
        loss = huber_hu(estimate.float(), thin, weight, knee_hu=recipe.optimiser.knee_hu)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise ModelError(
                f"The loss became {losses[-1]} at step {step}; lower optimiser.learning_rate in the recipe and start "
                "again."
            )
        optimiser_wrapped.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(network, optimiser_wrapped, max_norm=recipe.optimiser.clip_norm, error_if_nonfinite=False)
        optimiser_wrapped.step()
        average.update(bare, step)

        now, done = time.monotonic(), step + 1
        if done % recipe.log_every == 0 or done == recipe.optimiser.steps:
            left = (now - started) / (done - first) * (recipe.optimiser.steps - done)
            line = Progress(done, recipe.optimiser.steps, sum(losses) / len(losses), left)
            losses.clear()
            _log(out / "log.csv", line, learning_rate(step, recipe.optimiser))
            if report:
                report(line)
        stopping = stop_after_s is not None and now - started > stop_after_s
        if stopping or now - saved > recipe.save_every_s or done == recipe.optimiser.steps:
            _save(out / "state.pt", recipe, done, bare, average, optimiser)
            saved = now
        if stopping and done < recipe.optimiser.steps:
            return None
    return export(recipe, average.network, out / f"{recipe.name}.safetensors", steps=recipe.optimiser.steps)


def export(recipe: TrainRecipe, network: torch.nn.Module, path: Path, *, steps: int) -> Path:
    """Write weights with their card, which names the recipe, its digest, the seed and the machine's software."""
    assert isinstance(network, ThroughPlaneModel)
    card: dict[str, Any] = {
        **recipe.card,
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json", exclude={"card"}),
        "recipe_sha256": recipe.digest,
        "steps": steps,
        "seed": recipe.seed,
        "thinslice": thinslice.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    with atomic_file(path, overwrite=True) as part:
        checkpoint.save(network, part, architecture=recipe.network.name, card=card)
    return path


def export_state(recipe: TrainRecipe, out: Path) -> Path:
    """Write the running average of an unfinished run as weights, to look at it before the end.

    Raises:
        UsageError: when the folder holds no state of this recipe.
    """
    network = catalog.build(recipe.network.name, **recipe.network.config)
    average = RunningAverage(network, recipe.optimiser.average)
    optimiser = torch.optim.AdamW(network.parameters())
    steps = _resume(out / "state.pt", recipe, network, average, optimiser)
    if steps == 0:
        raise UsageError(f"{out} holds no training state yet.")
    return export(recipe, average.network, out / f"{recipe.name}.safetensors", steps=steps)


def _volumes(recipe: TrainRecipe, data_root: Path) -> Iterator[Volume]:
    for entry in recipe.data:
        place = data_root / entry
        files: Sequence[Path] = [place]
        if place.is_dir():
            inside = sorted(f for f in place.iterdir() if f.name.endswith(_VOLUME_SUFFIXES))
            files = inside or [place]
        if not place.exists():
            raise UnreadableError(f"The recipe's data path {entry} does not exist below {data_root}.")
        for file in files:
            yield read(file)


def _prefetched(sampler: CropSampler, first: int, steps: int) -> Iterator[tuple[int, Batch]]:
    """Batches in order, the next one drawn while the last is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(sampler.draw, first)
        for step in range(first, steps):
            batch = coming.result()
            if step + 1 < steps:
                coming = pool.submit(sampler.draw, step + 1)
            yield step, batch


def _save(
    path: Path,
    recipe: TrainRecipe,
    step: int,
    network: torch.nn.Module,
    average: RunningAverage,
    optimiser: torch.optim.Optimizer,
) -> None:
    state = {
        "recipe_sha256": recipe.digest,
        "step": step,
        "network": network.state_dict(),
        "average": average.network.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    with atomic_file(path, overwrite=True) as part, part.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _resume(
    path: Path,
    recipe: TrainRecipe,
    network: torch.nn.Module,
    average: RunningAverage,
    optimiser: torch.optim.Optimizer,
) -> int:
    """Load a saved state, if there is one; the step to go on with."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe_sha256"] != recipe.digest:
        raise UsageError(f"{path.parent} holds a run of another recipe; give another --out folder or remove it.")
    network.load_state_dict(state["network"])
    average.network.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _log(path: Path, line: Progress, rate: float) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(["step", "loss", "learning_rate", "seconds_left"])
        writer.writerow([line.step, f"{line.loss:.6f}", f"{rate:.3e}", f"{line.seconds_left:.0f}"])
