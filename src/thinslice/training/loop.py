"""The training loop: resumable, on one process or several.

A run is a folder: `state.pt` (the training state, replaced atomically), `log.csv`, `validation.csv`, `pictures/`,
`tensorboard/`, and weights. A run that is started again continues from the saved state. Crops and stochastic depth
depend only on the seed, the step and the place in the batch, so a continued run equals an uninterrupted one, and
several processes together equal one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from thinslice.data.crops import Batch, Sampler
from thinslice.errors import ModelError, UsageError
from thinslice.inference.backends.choice import keep_freed_memory
from thinslice.models.base import ThroughPlaneModel
from thinslice.recipes import OptimiserRecipe, TrainRecipe
from thinslice.training.export import BEST, LAST, PROFILE_FILE, copy_weights, export
from thinslice.training.interruption import deferred_interruption
from thinslice.training.journal import Journal
from thinslice.training.objective import Conditions, ObjectiveModule
from thinslice.training.optimiser import RunningAverage, ValidationHistory, learning_rate, make_optimiser
from thinslice.training.setup import initial_weights, passes_count, starting_network
from thinslice.training.sources import open_sources
from thinslice.training.state import STATE_FILE, Origin, Run
from thinslice.training.step_memory import estimate_step_bytes, pass_extent, require_step
from thinslice.training.validate import validate
from thinslice.typing import Notify


@dataclass(frozen=True)
class LogLine:
    """One line of the log.

    Attributes:
        step: optimiser steps done.
        steps: optimiser steps in all.
        loss: mean loss since the last line.
        seconds_left: estimated seconds to the end, validations included.
        psnr: PSNR of a validation just made, dB; None otherwise.
        stage: name of the stage; empty for a run without stages.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float
    psnr: float | None = None
    stage: str = ""


@dataclass(frozen=True)
class RunOptions:
    """What a run needs beside its recipe; the stages of a recipe share it.

    Attributes:
        fabric: result of `make_fabric`.
        data_root: folder that holds the recipe's relative data paths.
        stop_after_s: seconds after which the state is saved and training stops; None for no limit.
        report: called with each line of the log, and after the first step, in the first process.
        notify: called with lines about what is trained and read, and about an interruption, in the first process.
        places: folders, beside the current one, that a relative `start` of the recipe may lie in.
    """

    fabric: Fabric
    data_root: Path
    stop_after_s: float | None = None
    report: Callable[[LogLine], None] | None = None
    notify: Notify | None = None
    places: tuple[Path, ...] = ()

    def note(self, line: str) -> None:
        """Pass a line to `notify`, in the first process."""
        if self.notify and self.fabric.is_global_zero:
            self.notify(line)

    def log(self, line: LogLine) -> None:
        """Pass a line to `report`, in the first process."""
        if self.report and self.fabric.is_global_zero:
            self.report(line)


def run(
    recipe: TrainRecipe, out: Path, options: RunOptions, *, start: Path | None = None, stage: str = ""
) -> Path | None:
    """Train one network to the end, or continue an interrupted run.

    Args:
        recipe: recipe of the run; its stages are ignored.
        out: folder of the run; created when missing.
        options: device, data, and callbacks for progress.
        start: weights of the stage before; None for those that the recipe names, or random ones.
        stage: name of the stage for messages.

    Returns:
        The weights file, or None when stopped before the end.

    Raises:
        UsageError: when the folder holds another run, or the processes cannot share the batch evenly.
        ModelError: when the loss is no longer finite; the message names the cases, and the last saved state is kept.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is saved.
    """
    fabric = options.fabric
    out.mkdir(parents=True, exist_ok=True)
    chunks = share_batch(recipe.optimiser, rank=fabric.global_rank, processes=fabric.world_size)
    keep_freed_memory()
    fabric.seed_everything(recipe.seed, verbose=False)
    network, initial = starting_network(recipe, start or initial_weights(recipe, options.places))
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(trainable, recipe.optimiser)
    at = Run(
        Origin(recipe, "" if initial is None else initial.sha256, passes_count(recipe, network)),
        network,
        RunningAverage(network, recipe.optimiser.average, recipe.optimiser.start_share),
        optimiser,
        ValidationHistory(),
    )
    module, wrapped = fabric.setup(ObjectiveModule(network, recipe.objective, recipe.loss), optimiser)
    at.average.network.to(fabric.device)
    at.load(out, fabric)
    if at.finished:
        return out / f"{recipe.name}.safetensors"
    if start is not None:
        initial = None  # the card names the weights that the first stage began with
    first, steps, losses = at.step, recipe.optimiser.steps, list(at.losses)
    options.note(
        f"{stage or recipe.name}: {recipe.network.name}, {sum(map(torch.numel, trainable))} trained values, "
        f"{fabric.device}, {'step 0' if first == 0 else f'continues after step {first}'} of {steps}"
    )
    sources = open_sources(recipe, options.data_root, notify=options.note)
    held_out, profile = sources.held_out, sources.profile
    if profile is not None and fabric.is_global_zero:
        profile.write(out / PROFILE_FILE, overwrite=True)
    extent = pass_extent(recipe, sources.factor, len(chunks[0]))
    needed = estimate_step_bytes(module.module, fabric.device, extent, sources.factor)
    if needed is not None:
        options.note(require_step(needed, fabric.device))
    at.origin = at.origin.with_data(sources.digests, sources.cases, out)
    keep = partial(export, recipe, initial=initial, profile=profile, data=sources.digests, schedule=at.schedule)
    if at.is_lengthened:
        shorter, now = at.schedule[-2], at.schedule[-1]
        options.note(
            f"lengthened from {shorter.steps} to {now.steps} steps at step {now.first}: learning rate "
            f"{learning_rate(first, recipe.optimiser, plateau=at.history.plateau, spans=at.schedule):.2e} on"
        )
    options.note(f"state in {out / STATE_FILE}; Ctrl-C saves it, and the same command continues")

    started = saved = time.monotonic()
    alone = fabric.world_size == 1
    with (
        Journal(out, first=first, writes=fabric.is_global_zero, notify=options.note) as journal,
        deferred_interruption(options.notify, enabled=alone) as interruption,
    ):
        for step, batches in prefetched(sources.sampler, chunks, first, steps):
            rate = learning_rate(step, recipe.optimiser, plateau=at.history.plateau, spans=at.schedule)
            for group in wrapped.param_groups:
                group["lr"] = rate
            wrapped.zero_grad()
            total = 0.0
            for index, (chunk, batch) in enumerate(zip(chunks, batches, strict=True)):
                # Stochastic depth depends only on seed, step and place in the batch, on any process.
                torch.manual_seed(mix(recipe.seed, step, chunk.start))
                arrays = (fabric.to_device(torch.from_numpy(a)) for a in (batch.thick, batch.thin, batch.weight))
                with fabric.no_backward_sync(module, enabled=index + 1 < len(chunks)):
                    loss = module(*arrays, Conditions(batch.factor, batch.profile))
                    _check_finite(loss, step, batch)
                    fabric.backward(loss / len(chunks))
                total += float(loss.detach()) / len(chunks)
            if recipe.optimiser.clip_norm:
                fabric.clip_gradients(module, wrapped, max_norm=recipe.optimiser.clip_norm, error_if_nonfinite=False)
            wrapped.step()
            at.average.update(network, step)
            losses.append(total)
            at.step = done = step + 1

            left = (time.monotonic() - started) / (done - first) * (steps - done)
            if done % recipe.log_every == 0 or done == steps:
                mean = _mean_over_processes(fabric, losses)
                losses.clear()
                journal.log(done, mean, rate, left)
                options.log(LogLine(done, steps, mean, left, stage=stage))
            elif done == first + 1:
                options.log(LogLine(done, steps, total, left, stage=stage))
            validated = bool(held_out) and recipe.validates and (done % recipe.validation.every == 0 or done == steps)
            if validated:
                scores = validate(_averaged(at), held_out, recipe.validation, fabric, profile)
                journal.validated(done, scores.psnr, scores.ssim, scores.cases)
                if scores.picture:
                    journal.picture(done, scores.picture)
                best = at.history.add(scores.psnr, done, recipe.optimiser)
                if best and fabric.is_global_zero:
                    keep(_averaged(at), out / BEST, steps=done, validation=scores)
                options.log(LogLine(done, steps, math.nan, left, psnr=scores.psnr, stage=stage))
                keep_freed_memory()
            at.losses = tuple(losses)
            at.finished = at.is_over
            limit = options.stop_after_s
            stopping = limit is not None and bool(fabric.broadcast(time.monotonic() - started > limit))
            if at.finished:
                break
            if stopping or validated or interruption.received or time.monotonic() - saved > recipe.save_every_s:
                at.save(out, fabric)
                saved = time.monotonic()
            if interruption.received:
                raise KeyboardInterrupt
            if stopping:
                return None
    return _finish(recipe, at, out, fabric, keep)


def share_batch(recipe: OptimiserRecipe, *, rank: int, processes: int) -> list[range]:
    """The crops of a batch that a process takes: one half-open range of items for each forward pass.

    Args:
        recipe: batch and micro-batch.
        rank: number of the process, from 0.
        processes: number of processes.

    Raises:
        UsageError: when the batch cannot be shared evenly; change batch or micro_batch.

    >>> share_batch(OptimiserRecipe(batch=4, micro_batch=1), rank=1, processes=2)
    [range(1, 2), range(3, 4)]
    >>> share_batch(OptimiserRecipe(batch=4), rank=0, processes=2)
    [range(0, 2)]
    """
    size = recipe.micro_batch or max(1, recipe.batch // processes)
    parts = [range(i, min(i + size, recipe.batch)) for i in range(0, recipe.batch, size)]
    if recipe.batch % size or len(parts) % processes:
        raise UsageError(
            f"A batch of {recipe.batch} in passes of {size} cannot be shared evenly by {processes} processes; change "
            "optimiser.batch or optimiser.micro_batch in the recipe."
        )
    return parts[rank::processes]


def mix(*numbers: int) -> int:
    """A seed computed from several numbers.

    >>> mix(0, 1) != mix(1, 0)
    True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def prefetched(sampler: Sampler, chunks: Sequence[range], first: int, steps: int) -> Iterator[tuple[int, list[Batch]]]:
    """Steps in order with their crops; the crops of the next step are drawn in a second thread meanwhile."""

    def draw(step: int) -> list[Batch]:
        return [sampler.draw(step, chunk) for chunk in chunks]

    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(draw, first)
        for step in range(first, steps):
            batches = upcoming.result()
            if step + 1 < steps:
                upcoming = pool.submit(draw, step + 1)
            yield step, batches


def _check_finite(loss: torch.Tensor, step: int, batch: Batch) -> None:
    if not math.isfinite(float(loss.detach())):
        raise ModelError(
            f"The loss became {float(loss.detach())} at step {step}, on crops of {', '.join(batch.cases)}; check "
            "these cases (thinslice dataset verify), or lower optimiser.learning_rate in the recipe and start again."
        )


def _averaged(at: Run) -> ThroughPlaneModel:
    """The network with averaged weights, which is validated and kept."""
    network = at.average.kept()
    assert isinstance(network, ThroughPlaneModel)
    return network


def _mean_over_processes(fabric: Fabric, values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    if fabric.world_size == 1:
        return mean
    reduced = fabric.all_reduce(fabric.to_device(torch.tensor(mean, dtype=torch.float64)), reduce_op="mean")
    return float(reduced)  # type: ignore[arg-type]


def _finish(recipe: TrainRecipe, at: Run, out: Path, fabric: Fabric, keep: Callable[..., Path]) -> Path:
    """Write the last weights, and a copy under the run's name: the best ones, or the last without validation."""
    final = out / f"{recipe.name}.safetensors"
    if fabric.is_global_zero:
        keep(_averaged(at), out / LAST, steps=at.step)
        chosen = out / (BEST if recipe.validates else LAST)
        copy_weights(chosen, final)
    # Saved last: a run that is killed before this point finishes again.
    at.save(out, fabric)
    fabric.barrier()
    return final
