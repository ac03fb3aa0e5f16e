"""Whatever happens inside a command becomes one sentence and the right exit code."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import thinslice
from support.command_line import Run
from thinslice import errors
from thinslice.cli.app import app

EXIT_CODES = {
    "ThinsliceError": 1,
    "UsageError": 2,
    "ArgumentTypeError": 2,
    "InputError": 3,
    "UnreadableError": 3,
    "DownloadError": 3,
    "UnreachableError": 3,
    "MissingExtraError": 3,
    "GeometryError": 3,
    "SeriesChoiceError": 3,
    "NotEligibleError": 3,
    "ModelError": 4,
    "ShapeError": 4,
    "CheckpointError": 4,
    "OutputError": 5,
    "OutputExistsError": 5,
    "OutputBusyError": 5,
    "ResourceError": 6,
    "DeviceError": 7,
    "PartlyDoneError": 8,
}

COMMANDS = (
    [],
    ["upscale"],
    ["inspect"],
    ["evaluate"],
    ["convert"],
    ["demo"],
    ["train"],
    ["models"],
    ["models", "list"],
)


def _every(kind: type[errors.ThinsliceError]) -> Iterator[type[errors.ThinsliceError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _every(child)


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def survey(path: Path) -> None:
        raise error

    monkeypatch.setattr("thinslice.commands.inspect.survey", survey)


def test_every_error_has_an_exit_code_here() -> None:
    assert {kind.__name__ for kind in _every(errors.ThinsliceError)} == EXIT_CODES.keys()


@pytest.mark.parametrize("name", EXIT_CODES)
def test_an_error_becomes_one_line_and_its_exit_code(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, getattr(errors, name)("The slice at 5 mm is missing; get it."))
    outcome = run("inspect", "x")
    assert outcome.code == EXIT_CODES[name]
    assert outcome.err == "error: The slice at 5 mm is missing; get it.\n"
    assert outcome.out == ""


def test_an_internal_error_asks_for_a_report_and_hides_values(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THINSLICE_DEBUG", raising=False)
    _raising(monkeypatch, ValueError("Doe^Jane"))
    outcome = run("inspect", "x")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "report" in outcome.err and "ValueError" in outcome.err
    assert "Doe" not in outcome.err


def test_debug_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINSLICE_DEBUG", "1")
    _raising(monkeypatch, ValueError("value"))
    outcome = run("inspect", "x")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 6)])
def test_interruption_and_lack_of_memory(
    error: BaseException, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, error)
    outcome = run("inspect", "x")
    assert outcome.code == code
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["upscale"], ["upscale", "a", "b", "--nonsense"]])
def test_wrong_usage_is_2(arguments: list[str], run: Run) -> None:
    assert run(*arguments).code == 2


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"thinslice {thinslice.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_examples_and_the_notice(command: list[str], run: Run) -> None:
    outcome = run(*command, "--help")
    assert outcome.code == 0
    assert thinslice.NOTICE in outcome.text
    assert "Exit codes:" in outcome.out
    if command != ["models"]:
        example = " ".join(["thinslice", *command])
        assert outcome.out.count(example) >= 2, "usage, and an example"


def _all_commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    group = get_command(app) if group is None else group
    yield path
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _all_commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("command", list(_all_commands()), ids=" ".join)
def test_help_fits_80_columns_and_names_types_in_words(
    command: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(*command, "--help")
    assert outcome.code == 0
    examples = ("thinslice ", "torchrun ", "Usage: ")
    prose = [line for line in outcome.out.splitlines() if not line.strip().startswith(examples)]
    assert [line for line in prose if len(line) > 80 or line.endswith("...")] == []
    text = re.sub(r"\{(case|split|patient)\}", "", outcome.out)  # placeholders of patterns, no choices
    for word in ("<str>", "<int", "<path>", "<float", "x>=", "{"):
        assert word not in text


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["upscale", "a", "b", "--ouput", "c"], "Did you mean --output"),
        (["demo", "--weights", "x"], "Did you mean --model?"),
        (["upscale", "a", "b", "-j", "2"], "Did you mean --threads?"),
        (["upscale", "a", "b", "--recursive"], "Did you mean --all?"),
        (["inspect", "-i", "x"], "given without an option"),
        (["upscal", "a", "b"], "Did you mean 'upscale'?"),
        (["chest_5mm/", "chest_1mm/"], "thinslice upscale chest_5mm/ OUTPUT"),
        (["upscale", "a"], "INPUT and OUTPUT are needed"),
        (["upscale"], "INPUT and OUTPUT are needed"),
        (["version"], "Try: thinslice --version"),
        (["batch", "a", "b"], "Try: thinslice upscale FOLDER OUT --all"),
        (["models", "lst"], "Did you mean 'list'?"),
        (["-q", "upscale", "a", "b"], "Options follow the name of the command"),
        (["upscale", "a", "b", "--spacing", "1mm"], "write it without a unit, 1."),
        (["upscale", "a", "b", "--threads", "0"], "it must be 1 or more"),
        (["upscale", "a", "-"], "name a file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_or_command_is_answered_with_the_right_one(typed: list[str], answer: str, run: Run) -> None:
    outcome = run(*typed)
    assert outcome.code == 2
    assert answer in outcome.text


@pytest.mark.parametrize("typed", [["--spacing", "1,25"], ["--spacing=1,25"]])
def test_a_decimal_comma_is_named(typed: list[str], run: Run) -> None:
    answer = run("upscale", "in", "out", *typed)
    assert answer.code == 2 and "'1,25' is no number: write it with a decimal point, 1.25." in answer.text
    assert "'2,5' is no whole number" in run("upscale", "in", "out", "--factor", "2,5").text


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["", "a.nii.gz"], "An argument is empty"),
        (["scan", ""], "An argument is empty"),
        (["scan", "a.nii.gz", "\u2014all"], "type --all with two hyphens"),
        (["scan", "a.nii.gz", "\u2013-factor", "5"], "type --factor with two hyphens"),
        (["scan", "a.nii.gz", "-factor", "5"], "Did you mean --factor?"),
        (['"my scan"', "a.nii.gz"], "quotation marks"),
        (["\u201cscan\u201d", "a.nii.gz"], "quotation marks"),
        (["file:///data/scan", "a.nii.gz"], "without file://"),
        (["~/scan", "a.nii.gz"], "not replaced by your shell"),
        (["scan", "$HOME/a.nii.gz"], "not replaced by your shell"),
        (["scan", "a.nii.gz", "--report", "--quiet"], "--report needs a value before --quiet"),
        (["scan", "a.nii.gz", "--model", "defualt"], "Did you mean default?"),
    ],
)
def test_what_no_shell_mends_is_answered_with_the_right_way(
    typed: list[str], answer: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scan").mkdir()
    outcome = run("upscale", *typed)
    assert outcome.code == 2 and answer in outcome.text
    assert list(tmp_path.iterdir()) == [tmp_path / "scan"]


def test_paths_of_windows_are_named_as_such(run: Run) -> None:
    for typed in (["C:\\scan", "a.nii.gz"], ["scan", "D:\\out\\thin.nii.gz"]):
        outcome = run("upscale", *typed)
        assert outcome.code == 2 and "a path of Windows" in outcome.text


def test_the_wrong_order_of_input_and_output_is_named(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", tmp_path / "thin.nii.gz", thick_nifti)
    assert outcome.code == 3 and "the input comes first" in outcome.text


def test_help_is_found_where_people_look_for_it(run: Run) -> None:
    wanted = run("upscale", "--help").out
    assert run("help", "upscale").out == wanted
    assert run("upscale", "a", "b", "--help").out == wanted
    assert run("help").out == run("--help").out
    assert run("help", "models", "list").out == run("models", "list", "-h").out


def test_completion_can_be_installed(run: Run) -> None:
    assert "--install-completion" in run("--help").out


def test_a_closed_pipe_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "thinslice", "models", "list"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_notes_that_nobody_reads_do_not_end_the_work(thick_nifti: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["upscale", str(thick_nifti), str(tmp_path / "thin.nii"), "--model", "linear"]
    done = subprocess.run([sys.executable, "-m", "thinslice", *arguments], stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 0 and (tmp_path / "thin.nii").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX closes the streams")
def test_a_program_started_without_standard_streams_works(thick_nifti: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thinslice", "upscale", str(thick_nifti), str(tmp_path / "thin.nii.gz")]
    shell = shlex.join([*command, "--model", "linear"]) + " <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
    assert thinslice.read(tmp_path / "thin.nii.gz").hu.shape[0] == 21


NARROW_TERMINALS = {
    "C": {"LC_ALL": "C", "TERM": "dumb"},
    "ascii": {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"},
    "no UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
"""Environments of terminals that have no umlauts."""


def test_umlauts_in_paths_work_without_a_utf8_terminal(thick_nifti: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Müller Ärzte"
    folder.mkdir()
    command = [sys.executable, "-m", "thinslice", "upscale", thick_nifti, folder / "dünn.nii", "--model", "linear"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **NARROW_TERMINALS["no UTF-8"]}, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "dünn.nii").is_file() and b"\x1b" not in done.stdout + done.stderr
    for environment in NARROW_TERMINALS.values():
        done = subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)
        assert done.returncode == 5 and b"exists" in done.stderr and b"\x1b" not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_in_the_network_leaves_nothing(thick_nifti: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    # The network is made to wait, so that the signal comes while the writer is open.
    program = (
        "import sys, time\n"
        "from thinslice.inference.backends import choice\n"
        "def wait(*_, **__):\n"
        "    print('in the network', flush=True)\n"
        "    time.sleep(60)\n"
        "choice.TorchBackend.__call__ = wait\n"
        "from thinslice.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["upscale", str(thick_nifti), str(out / "thin.nii.gz"), "--model", "linear"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the network\n"
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=1800)
    assert process.returncode == 130
    assert "interrupted" in text and "Traceback" not in text
    assert list(out.iterdir()) == []
