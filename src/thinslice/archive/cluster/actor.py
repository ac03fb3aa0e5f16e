"""One worker on a node of a cluster: it is given names of files, and gives back what became of a series."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinslice.about import __version__
from thinslice.archive.plan_file import PlanFile
from thinslice.archive.series_work import DiskShortError, InHand, SeriesWork
from thinslice.archive.storage.scratch import Scratch
from thinslice.archive.storage.store import is_store
from thinslice.archive.storage.task import SeriesTask
from thinslice.queue.work import outcome_of

ENVIRONMENT = ("SOURCE_DATE_EPOCH", "THINSLICE_DEBUG")
"""Variables of the driver that its workers have too. Credentials of stores are each node's own."""


class SeriesActor:
    """One worker; Ray calls `read` and `work` in two threads.

    Args:
        plan: `PlanFile` as JSON values.
        root: of the archive.
        device: where networks run.
        threads: CPU threads.
        kept_free_mib, scratch, scratch_mib: as in `thinslice.archive.worker.WorkerOptions`.
        environment: values of `ENVIRONMENT`.
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        root: str,
        *,
        device: str,
        threads: int,
        kept_free_mib: float,
        scratch: str | None,
        scratch_mib: float,
        environment: Mapping[str, str],
    ) -> None:
        os.environ.update(environment)
        if os.environ.get("THINSLICE_DEBUG") != "1":
            _hush()
        self._root = root
        self._plan = PlanFile.model_validate(plan)
        self._scratch = Scratch(None if scratch is None else Path(scratch), most_mib=scratch_mib)
        self._work = SeriesWork(self._plan, self._scratch, device=device, threads=threads, kept_free_mib=kept_free_mib)
        self._hands: dict[str, InHand] = {}
        self._changing = threading.Lock()

    def hello(self, version: str) -> str:
        """Why this node cannot work on the plan; "" where it can.

        Args:
            version: of the driver.
        """
        if version != __version__:
            return f"a node has thinslice {__version__}, and this machine {version}"
        places = [self._root] if is_store(self._plan.out) else [self._root, str(Path(self._plan.out).parent)]
        if any(not is_store(place) and not Path(place).is_dir() for place in places):
            return "a node lacks the folder of the archive or of the outputs; put them on a shared file system"
        return ""

    def read(self, key: str, task: Mapping[str, Any]) -> None:
        """Read a series ahead.

        Args:
            key: of the job.
            task: `SeriesTask` as JSON values.
        """
        hand = InHand(SeriesTask.from_values(task))
        with self._changing:
            self._hands[key] = hand
        self._work.read(hand)

    def work(self, key: str) -> dict[str, Any]:
        """Upscale a series that was read, and give back what became of it.

        Returns:
            `result`; or `reason`, `exit_code` and `retry`; or nothing where the disk is short.
        """
        with self._changing:
            hand = self._hands.pop(key)
        try:
            return {"result": self._work.result(hand, lambda name, share: None)}
        except DiskShortError:
            return {}
        except Exception as error:
            reason, exit_code, retry = outcome_of(error)
            return {"reason": reason, "exit_code": exit_code, "retry": retry}
        finally:
            hand.give_up()
            gc.collect()


def _hush() -> None:
    """Print nothing: what libraries print quotes values, which may be the patient's, and Ray keeps it in files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
