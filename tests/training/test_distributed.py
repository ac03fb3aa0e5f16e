"""Two processes give the result of one; a run that is killed several times ends like one that was not."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from thinslice.errors import UsageError
from thinslice.models import checkpoint
from thinslice.recipes import OptimiserRecipe, TrainRecipe, read_train_recipe
from thinslice.training.fit import LogLine, fit
from thinslice.training.loop import share_batch

TOML = """
name = "shared"
log_every = 1
save_every_s = 0.0
[network]
name = "tvsrn"
[network.config]
depth = 3
features = 2
heads = 2
drop_rate = 0.4
encoder_blocks = 1
through_plane_blocks = 1
decoder_groups = 1
[dataset]
root = "pairs"
[crops]
depth = 3
plane = 16
[loss]
kind = "l1"
[optimiser]
steps = 6
batch = 4
micro_batch = 1
warmup = 0
schedule = "constant"
learning_rate = 1e-3
average = 0.9
[validation]
every = 6
cases = 2
pictures = false
"""


ONE_OF_EACH = {"encoder_blocks": 1, "through_plane_blocks": 1, "decoder_groups": 1}
"""The smallest network with every kind of block, as in `TOML`."""


def loss_curve(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def test_two_processes_give_the_loss_curve_of_one(tmp_path: Path, pairs_root: Path) -> None:
    recipe = tmp_path / "shared.toml"
    recipe.write_text(TOML)
    command = ["-m", "thinslice", "train", str(recipe), "--data", str(pairs_root), "--device", "cpu", "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*torchrun, sys.executable, *command, "--out", str(tmp_path / "two")],
        env=environment, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The one is this process: a start of Python and torch less.
    fit(read_train_recipe(recipe), tmp_path / "one", data_root=pairs_root, device="cpu", threads=1)
    one, two = loss_curve(tmp_path / "one"), loss_curve(tmp_path / "two")
    assert len(one) == 6
    assert two == pytest.approx(one, rel=1e-5)
    ours, theirs = (checkpoint.load(tmp_path / out / "shared.safetensors").state_dict() for out in ("one", "two"))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-4)


@pytest.mark.heavy
def test_two_machines_under_slurm_give_the_loss_curve_of_one(tmp_path: Path, pairs_root: Path) -> None:
    recipe = tmp_path / "shared.toml"
    recipe.write_text(TOML)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "thinslice", "train", str(recipe), "--data", str(pairs_root), "--device", "cpu", "--threads", "1"]
    launchers = []
    for rank in range(2):
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank)]
        place = ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port), "--no-python"]
        # What srun sets for the launcher of each machine: it must not be taken for the number of processes.
        slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NODEID": str(rank)}
        slurm |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0", "SLURM_NNODES": "2"}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **slurm}
        arguments = [*launch, *place, sys.executable, *command, "--out", str(tmp_path / "two")]
        launchers.append(subprocess.Popen(arguments, env=environment))
    assert [launcher.wait(timeout=1800) for launcher in launchers] == [0, 0]
    fit(read_train_recipe(recipe), tmp_path / "one", data_root=pairs_root, device="cpu", threads=1)
    assert loss_curve(tmp_path / "two") == pytest.approx(loss_curve(tmp_path / "one"), rel=1e-5)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    parts = [share_batch(OptimiserRecipe(batch=6, micro_batch=1), rank=r, processes=3) for r in range(3)]
    assert sorted(item for part in parts for chunk in part for item in chunk) == list(range(6))
    with pytest.raises(UsageError, match="evenly"):
        share_batch(OptimiserRecipe(batch=3), rank=0, processes=2)


def _train_reporting(recipe: TrainRecipe, out: Path, root: Path, lines: int, parent: Connection) -> None:
    """Train and send each line of the log to the parent; pause one line after the `lines`-th, to be killed."""
    torch.set_num_threads(1)
    left = iter(range(lines, -1, -1))

    def report(line: LogLine) -> None:
        parent.send(line.step)
        if next(left) == 0:
            parent.recv()  # never sent: ends with an error should the parent die

    fit(recipe, out, data_root=root, device="cpu", report=report)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.heavy)])
def test_sigkill_at_random_changes_nothing(tmp_path: Path, pairs_root: Path, kills: int) -> None:
    recipe = TrainRecipe(
        name="killed",
        network={"name": "tvsrn", "config": {"depth": 3, "features": 2, "heads": 2, "drop_rate": 0.3, **ONE_OF_EACH}},
        dataset={"root": "pairs"},
        crops={"depth": 3, "plane": 16},
        loss={"kind": "l1"},
        optimiser={"steps": 6 * kills + 4, "batch": 2, "micro_batch": 1, "warmup": 5, "average": 0.9},
        validation={"every": 3 * kills + 2, "pictures": False, "cases": 1},
        save_every_s=0.0,
        log_every=2,
    )
    whole = fit(recipe, tmp_path / "whole", data_root=pairs_root, device="cpu")
    assert whole is not None
    # Forked, so that a kill costs the run's time and not that of starting Python.
    fork = multiprocessing.get_context("fork")
    numbers = random.Random(7)
    steps = []
    for _ in range(kills):
        # Killed somewhere between this line of the log and the next one, where the run pauses: 6 steps at most.
        lines = numbers.choice((1, 2))
        parent, child = fork.Pipe()
        process = fork.Process(target=_train_reporting, args=(recipe, tmp_path / "cut", pairs_root, lines, child))
        process.start()
        child.close()
        steps.append([parent.recv() for _ in range(lines)][-1])
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        parent.close()
    assert steps == sorted(steps) and steps[-1] < 6 * kills + 4
    cut = fit(recipe, tmp_path / "cut", data_root=pairs_root, device="cpu")
    assert cut is not None
    for name in ("killed.safetensors", "last.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert loss_curve(tmp_path / "whole") == loss_curve(tmp_path / "cut")
    assert not [path for path in (tmp_path / "cut").iterdir() if path.name.startswith(".") and path.is_dir()]
