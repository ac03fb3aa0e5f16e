"""The file to share a job: the viewer, both volumes and the facts of the report, made when it is first asked for.

Packing the voxels takes as long as a fast network, and most jobs are not shared. The server reads no voxels, so a
process of its own does it: `python -m thinslice.service.share FOLDER` with the folder of the result.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from thinslice.errors import OutputError
from thinslice.service.folder import REPORT, VOLUMES
from thinslice.system.child_process import end_with_parent, exit_code_of

VIEW = "view.html"
"""Name of the file."""

SLAB_SLICES = 16
"""Slices that are unpacked at once."""

_one_at_a_time = threading.Lock()


def shared_file(result: Path) -> Path:
    """The file of a finished job; the first call makes it.

    Args:
        result: folder of the result.

    Raises:
        OutputError: it cannot be made, such as on a full disk, or because the job has been removed.
    """
    file = result / VIEW
    with _one_at_a_time:
        if not file.is_file():
            command = [sys.executable, "-m", "thinslice.service.share", str(result)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                process.wait()
    if not file.is_file():
        raise OutputError("The file to share cannot be made: the disk is full, or the job has been removed.")
    return file


def write_shared(result: Path) -> None:
    """Write the file of a finished job from its raw volumes and its report.

    Args:
        result: folder of the result.

    Raises:
        ResourceError: the disk is full.
    """
    from thinslice.commands.run_report import RunReport
    from thinslice.pictures.viewer.page import ViewerPage
    from thinslice.service.volumes import described, grid_of, voxels_of
    from thinslice.volume import Provenance, Volume

    folder = result / VOLUMES
    views = {view.name: view for view in described(folder)}
    thick, thin, uncertainty = views["thick"], views["thin"], views.get("uncertainty")
    source = Volume(voxels_of(folder, thick), grid_of(thick), Provenance(padding_hu=thick.padding_hu))
    page = ViewerPage(source, grid_of(thin), deviation=uncertainty is not None)
    hu = voxels_of(folder, thin)
    steps = None if uncertainty is None else voxels_of(folder, uncertainty)
    for start in range(0, len(hu), SLAB_SLICES):
        part = slice(start, start + SLAB_SLICES)
        page.add(start, hu[part], None if uncertainty is None or steps is None else steps[part] * uncertainty.scale)
    report = RunReport.model_validate_json((result / REPORT).read_text(encoding="utf-8"))
    page.write(result / VIEW, report.facts())


def main(arguments: list[str]) -> int:
    """Make the file of one result; returns the exit code."""
    end_with_parent()
    return exit_code_of(lambda: write_shared(Path(arguments[0])))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
