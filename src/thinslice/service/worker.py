"""A worker process of the service: `python -m thinslice.service.worker FOLDER PLACE KIND THREADS LIMIT_S`.

It ends with the server: its standard input is a pipe that the server holds, and the pipe's end is the end of the worker
too, whatever ended the server. Two processes never share a place: a lock that the kernel keeps shows it, so a job that
a dead predecessor held is taken back at once.
"""

from __future__ import annotations

import gc
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thinslice.errors import OutputExistsError, UnreadableError
from thinslice.queue import Job, Lease, Queue, work
from thinslice.queue.lease import LEASE_S
from thinslice.service.folder import REPORT, SOURCE_FILE, VOLUMES, DataFolder, read_json, write_json
from thinslice.service.jobs import UPSCALE, result_of, upscale_job
from thinslice.service.sources import INSPECT, digest_of, source_path
from thinslice.system.atomic import sole_run
from thinslice.system.child_process import end_overdue, end_with_parent, exit_code_of
from thinslice.system.packages import is_installed

MOST_SERIES = 2_000
"""Series of a source that are listed."""


class Worker:
    """The work of the service's jobs.

    Args:
        folder: places on the disk.
        threads: CPU threads of a run; None for all cores.
    """

    def __init__(self, folder: DataFolder, *, threads: int | None = None) -> None:
        self._folder = folder
        self._threads = threads

    def inspect(self, job: Job, lease: Lease) -> Mapping[str, Any]:
        """List the series of a source; by headers alone where possible."""
        from thinslice.commands.inspect import survey

        path, by_content = self._source(job)
        lease.phase("inspecting", 0.0)
        digest = digest_of(path, by_content=by_content)
        lease.check()
        found = survey(path)
        return {"digest": digest, "series": [series.to_json() for series in found[:MOST_SERIES]]}

    def upscale(self, job: Job, lease: Lease) -> Mapping[str, Any]:
        """Upscale a series by the function of the command line; the result appears once, as a whole folder."""
        from thinslice.commands.upscale import run_upscale
        from thinslice.service.volumes import RawVolumes
        from thinslice.system.allocator import return_freed_memory
        from thinslice.system.atomic import atomic_directory

        final, live = self._folder.result(job.key), self._folder.live / job.key
        done = result_of(final)
        if done is not None:  # a predecessor was killed between its result and its note of it
            shutil.rmtree(live, ignore_errors=True)
            return done
        path, by_content = self._source(job)
        if not by_content and digest_of(path, by_content=False) != job.spec["digest"]:
            raise UnreadableError("The folder has changed since it was inspected; choose it again.")
        volumes = RawVolumes(live, uncertainty=job.spec["settings"]["uncertainty"] is not None)
        try:
            with atomic_directory(final) as place:
                command = upscale_job(job.spec, path, place, threads=self._threads)
                report = run_upscale(command, phase=lease.phase, watcher=volumes)
                volumes.close()
                report.write(place / REPORT)
                live.rename(place / VOLUMES)
                lease.check()
        except OutputExistsError:
            pass
        finally:
            volumes.close()
            shutil.rmtree(live, ignore_errors=True)
            gc.collect()
            return_freed_memory()
        made = result_of(final)
        if made is None:
            raise UnreadableError("The result has been removed; queue the job again.")
        return made

    def _source(self, job: Job) -> tuple[Path, bool]:
        """Path of a job's source, and whether its digest is that of its content."""
        source_id = job.spec["source"]
        values = read_json(self._folder.source(source_id) / SOURCE_FILE)
        return source_path(self._folder, source_id), values is not None and values["kind"] == "upload"


def main(arguments: list[str]) -> int:
    """Work until the server ends; returns the exit code."""
    root, place, kind, threads, limit = arguments
    end_with_parent()

    def serve() -> None:
        folder = DataFolder(Path(root))
        worker = Worker(folder, threads=int(threads) if threads else None)
        with sole_run(folder.workers / place), Queue(folder.queue_file) as queue:
            if kind == UPSCALE:
                _note_devices(folder)
            work_in_place(queue, place, {kind: worker.inspect if kind == INSPECT else worker.upscale}, limit)

    return exit_code_of(serve)


def work_in_place(
    queue: Queue, place: str, handlers: Mapping[str, Callable[[Job, Lease], Mapping[str, Any]]], limit: str
) -> None:
    """Do the jobs of some kinds until this process is ended; one that takes longer than its limit ends it.

    Args:
        queue: the jobs.
        place: of this process in the queue.
        handlers: kind of job -> what does it.
        limit: seconds of one job, as text; empty for no limit.
    """
    work(
        queue,
        place,
        handlers,
        stop=threading.Event(),
        lease_s=LEASE_S,
        limit_s=float(limit) if limit else None,
        overdue=end_overdue,
    )


def _note_devices(folder: DataFolder) -> None:
    """Note the devices of this machine for the page: the server itself does not load torch."""
    devices = ["cpu"]
    if is_installed("torch"):
        import torch

        devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            devices.append("mps")
    write_json(folder.root / "machine.json", {"devices": devices})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
