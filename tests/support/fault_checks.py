"""What each row of the fault table demands: one sentence, a stable exit code, nothing half-written, input untouched."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from support.command_line import Outcome, Run
from support.dicom_factory import assert_no_canary

World = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""HU at LPS positions (..., 3) in mm."""


def content_of(place: Path) -> dict[str, tuple[str, int]]:
    """Digest and mode of every file at or below a place, links by their target."""
    found = [place, *sorted(place.rglob("*"))] if place.is_dir() else [place]
    return {
        str(path.relative_to(place)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path.is_symlink()),
            path.lstat().st_mode,
        )
        for path in found
    }


@contextmanager
def untouched(*places: Path) -> Iterator[None]:
    """Fails when a file at or below a place is changed, added or removed inside the block."""
    before = [content_of(place) for place in places]
    yield
    assert [content_of(place) for place in places] == before, "the input was changed"


def assert_sentence(outcome: Outcome, *words: str) -> None:
    """The outcome is one error line, a sentence that holds every word, and no traceback; no canary anywhere."""
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, outcome.err
    sentence = errors[0]
    assert sentence.endswith((".", '"', ")")), sentence
    assert sentence.isprintable(), repr(sentence)
    assert "Traceback" not in outcome.err and "internal error" not in sentence, outcome.err
    for word in words:
        assert word.lower() in sentence.lower(), f"{word!r} is missing in: {sentence}"
    assert_no_canary(outcome.out + outcome.err)


def refuse(
    run: Run, *arguments: object, code: int, words: tuple[str, ...], inputs: tuple[Path, ...], out: Path
) -> Outcome:
    """Run a command that must be refused.

    Args:
        run: the command line.
        arguments: the command and its options.
        code: the exit code it must end with.
        words: what the sentence must name: the fault, its place, the next step.
        inputs: files and folders that must stay as they are.
        out: the folder of all outputs; nothing may appear in it.
    """
    before = content_of(out)
    with untouched(*inputs):
        outcome = run(*arguments)
    assert outcome.code == code, f"exit {outcome.code}: {outcome.err}"
    assert_sentence(outcome, *words)
    assert content_of(out) == before, "something was left in the folder of the output"
    return outcome


def refuse_upscale(run: Run, source: Path, *options: object, code: int = 3, words: tuple[str, ...]) -> Outcome:
    """Run `thinslice upscale` on an input that must be refused, to a NIfTI in an empty folder beside it."""
    out = source.parent / "refused"
    out.mkdir(exist_ok=True)
    command = ("upscale", source, out / "thin.nii.gz", "--model", "linear", "--report", out / "report.json", *options)
    return refuse(run, *command, code=code, words=words, inputs=(source,), out=out)


def upscale(run: Run, source: Path, output: Path, *options: object) -> tuple[Outcome, dict[str, Any]]:
    """Run `thinslice upscale` on an input that must be accepted; the outcome and the report.

    Nothing but the output and the report may appear, and nothing identifying in what is printed or reported.
    """
    out = output.parent
    out.mkdir(exist_ok=True)
    before = {path.name for path in out.iterdir()}
    report = out / f"{output.name}.report.json"
    options = options if "--model" in options else ("--model", "linear", *options)
    with untouched(source):
        outcome = run("upscale", source, output, "--report", report, *options)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in out.iterdir()} == before | {output.name, report.name} | (
        {output.with_suffix(".raw").name} if output.suffix == ".mhd" else set()
    )
    assert_no_canary(outcome.out + outcome.err + report.read_text())
    return outcome, json.loads(report.read_text())


def warnings_of(outcome: Outcome, report: dict[str, Any]) -> str:
    """The warnings as one text, after checking that what is printed and what is reported are the same."""
    printed = re.sub(r"\s+", " ", outcome.err)
    for sentence in report["warnings"]:
        assert re.sub(r"\s+", " ", sentence) in printed, f"reported, but not printed: {sentence}"
    return " ".join(report["warnings"])


def smooth_body(positions_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """HU that vary over 60 mm in every direction and differ along each axis: at most 50 HU a mm."""
    x, y, z = np.moveaxis(positions_mm, -1, 0)
    return 350 * np.sin(x / 17) + 250 * np.cos(y / 13 + 0.4) + 200 * np.sin(z / 19 + 1.0) + 0.5 * x
