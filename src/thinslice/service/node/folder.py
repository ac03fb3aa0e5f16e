"""The data folder of a node: its places, and what is removed when.

queue.sqlite      jobs
incoming/         received series (`inbox.py`)
arriving/         objects that have not come in whole
results/KEY/      a thin series and its report; appears whole
outbox/KEY.json   what a target has taken of a series
commitments/      reports of storage commitment
workers/          locks of worker processes
settings.json     settings of the running node, for its workers
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from thinslice.errors import OutputError
from thinslice.queue import Job, Queue, State
from thinslice.service.folder import make_private, read_json, write_json
from thinslice.service.node.inbox import Inbox
from thinslice.service.node.settings import NodeSettings

DAY_S = 86_400.0

REPORT = "report.json"
SETTINGS_FILE = "settings.json"
SERIES_FOLDER = "dicom"
SERIES_FILE = "thin.dcm"

MOST_JOBS = 1_000_000


class NodeFolder:
    """Places of a node on the disk.

    Args:
        root: the folder; made, for this user alone, if absent.

    Raises:
        OutputError: it cannot be made or written; name another one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.queue_file = self.root / "queue.sqlite"
        self.incoming = self.root / "incoming"
        self.arriving = self.root / "arriving"
        self.results = self.root / "results"
        self.outbox = self.root / "outbox"
        self.commitments = self.root / "commitments"
        self.workers = self.root / "workers"
        folders = (self.incoming, self.arriving, self.results, self.outbox, self.commitments, self.workers)
        make_private(self.root, folders)

    def keep_settings(self, settings: NodeSettings) -> None:
        """Keep the settings of the node that starts, so that its workers have the same whatever becomes of its file."""
        write_json(self.root / SETTINGS_FILE, settings.model_dump(mode="json", by_alias=True))

    def settings(self) -> NodeSettings:
        """Settings of the node that runs.

        Raises:
            OutputError: there are none; start the node.
        """
        values = read_json(self.root / SETTINGS_FILE)
        if values is None:
            raise OutputError("No node has used this folder; start one with thinslice node.")
        return NodeSettings.model_validate(values)

    def result(self, key: str) -> Path:
        """Folder of a result; it need not exist."""
        return self.results / key

    def thin_files(self, key: str) -> list[Path]:
        """DICOM files of a result, in order of their names."""
        folder = self.result(key)
        single = folder / SERIES_FILE
        return [single] if single.exists() else sorted((folder / SERIES_FOLDER).glob("*.dcm"))

    def progress(self, key: str) -> Path:
        """File with what a target has taken, by the key of the job that sends."""
        return self.outbox / f"{key}.json"

    def sweep(self, queue: Queue, inbox: Inbox, *, keep_days: float, now_s: float | None = None) -> int:
        """Remove received studies and results that are done with and old.

        A study stays while any of its jobs is queued or running, a result while it has not been sent everywhere.

        Args:
            queue: the jobs.
            inbox: the received objects.
            keep_days: age, since the last job ended, beyond which they go.
            now_s: the time, seconds since 1970.

        Returns:
            Number of studies that were removed.
        """
        now = time.time() if now_s is None else now_s
        jobs = queue.jobs(most=MOST_JOBS)
        by_study: dict[str, list[Job]] = {}
        for job in jobs:
            by_study.setdefault(str(job.spec.get("study", "")), []).append(job)
        removed = 0
        for path in list(self.incoming.iterdir()):
            theirs = by_study.pop(path.name, [])
            latest = max([job.ended_at_s or 0.0 for job in theirs], default=path.stat().st_mtime)
            busy = any(not job.state.is_final for job in theirs)
            if busy or inbox.is_waiting(path.name) or now - latest <= keep_days * DAY_S:
                continue
            inbox.remove(path.name)
            removed += 1
            by_study[path.name] = theirs
        for study, theirs in by_study.items():
            # Jobs whose study is gone; those that failed stay as a record for as long again.
            if (self.incoming / study).exists() or any(not job.state.is_final for job in theirs):
                continue
            for job in theirs:
                ended = job.ended_at_s or 0.0
                lasting = 2 * keep_days if job.state is State.FAILED else keep_days
                if now - ended > lasting * DAY_S and queue.remove(job.id):
                    shutil.rmtree(self.result(job.key), ignore_errors=True)
                    self.progress(job.key).unlink(missing_ok=True)
        return removed
