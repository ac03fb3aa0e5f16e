"""Options in messages name arguments and flags that exist."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

import thinslice
from support.dicom_factory import write_series
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions
from thinslice.archive.worker import WorkerOptions
from thinslice.cli.app import app
from thinslice.commands.batch import BatchJob
from thinslice.commands.calibrate import CalibrationJob
from thinslice.commands.demo import run_demo
from thinslice.commands.export import ExportJob
from thinslice.commands.score_report import score_pair, write_report
from thinslice.commands.upscale import UpscaleJob
from thinslice.data.download.dataset import download
from thinslice.data.hospital.build import PairRules, build_dataset
from thinslice.data.list_pairs import list_pairs
from thinslice.evaluation.match_near_far import save
from thinslice.evaluation.protocol import evaluate_all
from thinslice.experiments.benchmark.run import run_suite
from thinslice.experiments.domain_gap.run import run_gap
from thinslice.experiments.leave_one_out import train_leaving_out
from thinslice.inference.settings import UpscaleSettings
from thinslice.io.settings import ReadSettings
from thinslice.models.released.convert import convert
from thinslice.options import option, options_as_flags
from thinslice.service.settings import ServeSettings
from thinslice.training.fit import fit

SOURCE = Path(thinslice.__file__).parent


class Entrance(NamedTuple):
    """Functions that callers in Python use, and the commands that lead to the same modules."""

    functions: tuple[Callable[..., Any], ...]
    commands: tuple[str, ...]


UPSCALING = (thinslice.upscale, thinslice.upscale_slabs, thinslice.upscale_with_uncertainty)
READING = (thinslice.read, thinslice.Volume.from_nibabel)

ENTRANCES = {
    "": Entrance((*UPSCALING, *READING), ("upscale", "demo")),
    "io/": Entrance((thinslice.read, thinslice.write, *UPSCALING), ("upscale",)),
    "inference/": Entrance(UPSCALING, ("upscale",)),
    "models/": Entrance((thinslice.load_model, *UPSCALING), ("upscale",)),
    "models/released/": Entrance((convert,), ("convert",)),
    "system/": Entrance((thinslice.write, thinslice.preview), ("upscale",)),
    "commands/": Entrance((UpscaleJob, BatchJob, UpscaleSettings, ReadSettings, run_demo), ("upscale", "demo")),
    "commands/calibrate": Entrance((CalibrationJob,), ("models calibrate",)),
    "commands/score_report": Entrance((score_pair, write_report), ("evaluate",)),
    "commands/export": Entrance((ExportJob,), ("models export",)),
    "training/": Entrance((fit,), ("train",)),
    "evaluation/match_near_far": Entrance((save,), ("dataset analyse",)),
    "evaluation/protocol": Entrance((evaluate_all,), ("evaluate",)),
    "archive/": Entrance((ArchivePlace, PlanOptions, WorkerOptions), ("archive scan", "archive plan", "archive run")),
    "service/": Entrance((ServeSettings,), ("serve",)),
    "service/remote": Entrance(
        (UpscaleJob, UpscaleSettings, ReadSettings, thinslice.upscale_with_uncertainty), ("upscale",)
    ),
    "cli/serve": Entrance((ServeSettings,), ("serve",)),
    "experiments/leave_one_out": Entrance((train_leaving_out, UpscaleSettings), ("train", "upscale")),
    "experiments/": Entrance((run_suite, run_gap), ("benchmark",)),
    "data/download/": Entrance((download,), ("dataset download",)),
    "data/list_pairs": Entrance((list_pairs,), ("dataset manifest",)),
    "data/hospital/": Entrance((build_dataset, PairRules), ("dataset build",)),
}
"""Beginnings of the modules' paths; the longest one counts."""


def named_options() -> Iterator[tuple[str, str]]:
    """Module and name of each option in a message."""
    for file in sorted(SOURCE.rglob("*.py")):
        module = file.relative_to(SOURCE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            is_option = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "option"
            if is_option and isinstance(node.args[0], ast.Constant):
                yield module, node.args[0].value


def flags_of(command: str) -> set[str]:
    """The flags of a command of the program."""
    found: Any = get_command(app)
    for name in command.split():
        found = found.commands[name]
    return {flag for parameter in found.params for flag in (*parameter.opts, *parameter.secondary_opts)}


NAMED = sorted(set(named_options()))


@pytest.mark.parametrize(("module", "name"), NAMED, ids=["-".join(pair) for pair in NAMED])
def test_an_option_in_a_message_exists_in_python_and_on_the_command_line(module: str, name: str) -> None:
    functions, commands = ENTRANCES[max((start for start in ENTRANCES if module.startswith(start)), key=len)]
    argument = option(name).removesuffix("=")
    assert any(argument in inspect.signature(function).parameters for function in functions), argument
    with options_as_flags():
        flag = option(name)
    assert any(flag in flags_of(command) for command in commands), flag


def test_an_argument_of_reading_is_told_from_those_of_upscaling(tmp_path: Path) -> None:
    write_series(tmp_path / "a", seed=1, uid="1.2.1")
    write_series(tmp_path / "b", seed=2, uid="1.2.2")
    with pytest.raises(thinslice.ThinsliceError, match=r"series= by its .* argument of thinslice\.read, whose result"):
        thinslice.upscale(tmp_path, model="linear")
    with pytest.raises(thinslice.ThinsliceError, match=r"series= by its") as caught:
        thinslice.read(tmp_path)
    assert "argument of" not in str(caught.value)
