"""A worker process of a node: `python -m thinslice.service.node.worker FOLDER PLACE KIND LIMIT_S`.

Like a worker of the web service it ends with its server, and never shares its place.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinslice.errors import OutputError, OutputExistsError, ThinsliceError, UnreadableError
from thinslice.queue import Job, Lease, Queue
from thinslice.service.folder import read_json
from thinslice.service.node.commitment import Commitments
from thinslice.service.node.folder import REPORT, NodeFolder
from thinslice.service.node.inbox import Inbox
from thinslice.service.node.jobs import (
    EXAMINE,
    UPSCALE,
    asks_for_more,
    chosen_rule,
    facts_of,
    is_send,
    policy_of,
    sendings,
    upscale_command,
    upscaling,
)
from thinslice.service.node.settings import NodeSettings
from thinslice.service.worker import work_in_place
from thinslice.system.atomic import sole_run
from thinslice.system.child_process import end_with_parent, exit_code_of

MOST_REASONS = 20


class NodeWorker:
    """The work of a node's jobs.

    Args:
        settings: of the node.
        folder: places on the disk.
        queue: takes the jobs that follow from one.
    """

    def __init__(self, settings: NodeSettings, folder: NodeFolder, queue: Queue) -> None:
        self._settings = settings
        self._folder = folder
        self._queue = queue
        self._inbox = Inbox(folder.incoming, folder.arriving)

    def examine(self, job: Job, lease: Lease) -> Mapping[str, Any]:
        """Queue the upscaling of a received series, or of its parts, by the first rule that fits."""
        from thinslice.commands.inspect import survey

        study, series = job.spec["study"], job.spec["series"]
        lease.phase("examining", 0.0)
        files = self._inbox.files(study, series)
        if not files:
            raise UnreadableError("The received series has been removed; send it again.")
        content = self._inbox.content(study, series)
        lease.check()
        found = survey(self._inbox.folder(study, series))
        caller = self._inbox.caller(study, series)
        targets = [target.name for target in self._settings.targets]
        chosen, reasons = [], []
        for one in found:
            rule = None if one.derived else chosen_rule(self._settings, facts_of(one, files, caller))
            if one.derived:
                reasons.append("made by thinslice")
            elif not one.eligible and (rule is None or not asks_for_more(rule.run)):
                reasons.append(" ".join(one.reasons))
            elif rule is None:
                reasons.append("left out by the rules")
            else:
                chosen.append(upscaling(one, rule, study=study, series=series, content=content, targets=targets))
        lease.check()
        self._queue.submit_all(chosen)
        return {"volumes": len(found), "chosen": len(chosen), "reasons": reasons[:MOST_REASONS]}

    def upscale(self, job: Job, lease: Lease) -> Mapping[str, Any]:
        """Upscale a series by the function of the command line, then queue its sending."""
        from thinslice.commands.upscale import run_upscale
        from thinslice.system.allocator import return_freed_memory
        from thinslice.system.atomic import atomic_directory

        final = self._folder.result(job.key)
        if not final.exists():
            study, series = job.spec["study"], job.spec["series"]
            if self._inbox.content(study, series) != job.spec["content"]:
                return {"superseded": True}  # more came in: its examination queues the series anew
            command_files = tuple(self._inbox.files(study, series))
            try:
                with atomic_directory(final) as place:
                    command = upscale_command(job.spec, command_files, place, self._settings)
                    run_upscale(command, phase=lease.phase).write(place / REPORT)
                    lease.check()
            except OutputExistsError:
                pass
            finally:
                gc.collect()
                return_freed_memory()
        report = read_json(final / REPORT)
        if report is None:
            raise UnreadableError("The result has been removed; send the series again.")
        self._queue.submit_all(sendings(job.key, job.spec))
        return {
            "slices": report["output"]["slices"],
            "consistency_rms_hu": report["consistency_rms_hu"],
            "warnings": len(report["warnings"]),
        }

    def send(self, job: Job, lease: Lease) -> Mapping[str, Any]:
        """Send a thin series to a target."""
        from thinslice.service.node.delivery import Progress, Sender

        target = self._settings.target(job.spec["target"])
        if target is None:
            raise UnreadableError("The settings have no such target any more.")
        paths = self._folder.thin_files(job.spec["result"])
        if not paths:
            raise UnreadableError("The result has been removed; send the series again.")
        sender = Sender(self._settings.ae_title, target, self._settings.tls, Commitments(self._folder.commitments))
        try:
            return sender.send(paths, Progress.of(self._folder.progress(job.key)), phase=lease.phase, check=lease.check)
        except ThinsliceError as error:
            if isinstance(error, OutputError) or error.exit_code == 130:
                raise
            # What a target refuses today, such as a credential, its operator may permit tomorrow.
            raise OutputError(str(error)) from error


def main(arguments: list[str]) -> int:
    """Work until the server ends; returns the exit code."""
    root, place, kind, limit = arguments
    end_with_parent()

    def serve() -> None:
        folder = NodeFolder(Path(root))
        settings = folder.settings()
        with (
            sole_run(folder.workers / place.replace(":", "-")),
            Queue(folder.queue_file, policy=policy_of(kind, settings)) as queue,
        ):
            worker = NodeWorker(settings, folder, queue)
            handler = worker.send if is_send(kind) else {EXAMINE: worker.examine, UPSCALE: worker.upscale}[kind]
            work_in_place(queue, place, {kind: handler}, limit)

    return exit_code_of(serve)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
