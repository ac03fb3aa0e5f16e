"""The command line of thinslice as a process: where it is, its arguments, its progress.

Slicer brings a Python of its own, so thinslice lives in another one and is called as a program. Nothing here needs
Slicer; everything here runs in its Python 3.9 and later.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NOTICE = (
    "Research software, not a medical device. Synthesised detail can be wrong. "
    "Not for diagnosis; keep the original images."
)
"""The notice of thinslice (`thinslice.NOTICE`)."""

MODELS = ("default", "fast", "best", "cubic")
"""Networks of the package that need no file, and cubic interpolation to compare with."""

THIN, UNCERTAINTY = "thin.nii", "uncertainty.nii"
"""Names of the results in the folder of a run."""

_PERCENT = re.compile(r": (\d+) %")
_ERROR = "error: "


class ThinSlicesError(Exception):
    """A run that could not be done; the message names the remedy."""


@dataclass(frozen=True)
class Choices:
    """What to make of a volume.

    Attributes:
        model: a name of `thinslice models list`, or a weights file.
        factor: thin slices per thick interval, 2 to 8; not beside `spacing_mm`.
        spacing_mm: distance of thin slices; with neither, the whole factor that comes nearest to 1 mm.
        uncertainty: also make a volume of standard deviations in HU.
        texture: add synthetic noise, for measuring, never for reading small structures.
        more: further options of `thinslice upscale`, as on a command line.
    """

    model: str = "default"
    factor: int | None = None
    spacing_mm: float | None = None
    uncertainty: bool = False
    texture: bool = False
    more: str = ""


def find_program(chosen: str, environment: Mapping[str, str]) -> str:
    """Path of the program `thinslice`.

    Args:
        chosen: the path that the user set; empty to look on the search path, then where pipx and uv put programs.
        environment: variables of the process that started Slicer.

    Raises:
        ThinSlicesError: there is none; install it, or set its path.
    """
    name = "thinslice.exe" if os.name == "nt" else "thinslice"
    if chosen:
        if Path(chosen).is_file():
            return chosen
        raise ThinSlicesError(
            f"There is no program {chosen}. Set 'Program' to the path of {name}, or empty it to look for one."
        )
    places = os.pathsep.join((environment.get("PATH", ""), str(Path.home() / ".local" / "bin")))
    found = shutil.which("thinslice", path=places)
    if found is None:
        raise ThinSlicesError(
            "The program thinslice was not found. Install thinslice into a Python of your own (not Slicer's), then set "
            f"'Program' to the path of {name}: in an environment it lies in bin (Windows: Scripts)."
        )
    return found


def arguments(program: str, thick: Path, folder: Path, choices: Choices) -> list[str]:
    """The command that upscales a file.

    Args:
        program: as `find_program` gives it.
        thick: NIfTI of the thick slices, or a folder of DICOM files.
        folder: where the results go.
        choices: what to make.

    Raises:
        ThinSlicesError: a factor beside a spacing, or quotation marks that do not close; correct it.

    >>> arguments("thinslice", Path("thick.nii"), Path("out"), Choices(factor=5))[:4]
    ['thinslice', 'upscale', 'thick.nii', 'out/thin.nii']
    """
    if choices.factor is not None and choices.spacing_mm is not None:
        raise ThinSlicesError("Factor and spacing both set the distance of thin slices; choose one of them.")
    command = [program, "upscale", str(thick), str(folder / THIN), "--model", choices.model]
    if choices.factor is not None:
        command += ["--factor", str(choices.factor)]
    if choices.spacing_mm is not None:
        command += ["--spacing", f"{choices.spacing_mm:g}"]
    if choices.uncertainty:
        command += ["--uncertainty", str(folder / UNCERTAINTY)]
    if choices.texture:
        command.append("--texture")
    try:
        return command + shlex.split(choices.more, posix=os.name != "nt")
    except ValueError as error:
        raise ThinSlicesError(f"'More options' cannot be read ({error}); correct it.") from error


class Run:
    """A process of the command line; a thread reads what it prints, so that the window of Slicer stays alive.

    Args:
        process: started with its output and errors as one text stream.

    Attributes:
        lines: everything that was taken so far.
        share: done share of the current step, 0 to 1.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self.share = 0.0
        self._process = process
        self._printed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._printed.put(line.rstrip())
        self._process.wait()

    def take(self) -> list[str]:
        """Lines that were printed since the last call."""
        taken = []
        while not self._printed.empty():
            line = self._printed.get()
            percent = _PERCENT.search(line)
            self.share = int(percent.group(1)) / 100 if percent else 0.0
            taken.append(line)
        self.lines += taken
        return taken

    def wait(self) -> None:
        """Wait for the end of the process and of its output."""
        self._reader.join()

    @property
    def is_finished(self) -> bool:
        """Whether the process ended and all of its output can be taken."""
        return not self._reader.is_alive()

    def cancel(self) -> None:
        """End the process; it leaves no half-written file."""
        self._process.terminate()

    def check(self) -> None:
        """Refuse a run that made no volume; call it once the run is finished.

        Raises:
            ThinSlicesError: with the message of the command line, which names the remedy.
        """
        self.take()
        code = self._process.returncode
        if code == 0:
            return
        stated = [line[len(_ERROR) :] for line in self.lines if line.startswith(_ERROR)]
        last = self.lines[-1] if self.lines else "it printed nothing"
        raise ThinSlicesError(stated[-1] if stated else f"thinslice ended with exit code {code}: {last}")
