"""The state of an archive as JSON values: catalogue, plan, jobs, and the series that were set aside."""

from __future__ import annotations

import time
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.archive.catalogue import Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan_file import KIND, plan_values, read_plan
from thinslice.archive.run import state_of
from thinslice.queue import Queue

SCHEMA = "thinslice-archive-status/1"

MOST_SET_ASIDE = 200
"""Series that were set aside which are listed one by one."""


def status_of(place: ArchivePlace) -> dict[str, Any]:
    """The state of an archive; nothing in it names a patient, a folder or a file.

    Args:
        place: the index.

    Raises:
        UsageError: there is no index.
    """
    place.require()
    with Catalogue(place.catalogue) as catalogue:
        totals, reasons = catalogue.totals(), catalogue.reasons()
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "thinslice_version": __version__,
        "notice": NOTICE,
        "catalogue": {
            **totals.__dict__,
            "left_out_by_reason": [{"reason": reason, "files": files} for reason, files in reasons],
        },
        "plan": None,
        "jobs": None,
        "at_work": [],
        "set_aside": [],
    }
    if not place.plan.is_file():
        return values
    values["plan"] = plan_values(read_plan(place))
    with Queue(place.queue) as queue:
        state = state_of(queue)
        now = time.time()
        values["jobs"] = {
            "queued": state.queued,
            "running": state.running,
            "done": state.done,
            "failed": state.failed,
        }
        values["at_work"] = [
            {
                "series_uid": job.spec["series"],
                "worker": job.worker,
                "phase": job.phase,
                "share": round(job.share, 4),
                "seconds": None if job.begun_at_s is None else round(max(0.0, now - job.begun_at_s), 1),
            }
            for job in queue.running(KIND)
        ]
        values["set_aside"] = [
            {
                "series_uid": job.spec["series"],
                "rule": job.spec["rule"],
                "reason": job.reason,
                "exit_code": job.exit_code,
                "failures": job.failures,
                "losses": job.losses,
            }
            for job in queue.failed(KIND, most=MOST_SET_ASIDE)
        ]
    return values
