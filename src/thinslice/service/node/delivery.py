"""Sending a thin series to a target: C-STORE with storage commitment, or STOW-RS.

An object that is sent twice has the same UID both times, so a target never has two. What a target has taken is noted
in a file, so that an attempt after a broken connection goes on where the last one ended.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from thinslice.errors import OutputError
from thinslice.service.dicomweb.connection import connect, credentials
from thinslice.service.dicomweb.store import StoredFile, store
from thinslice.service.folder import read_json, write_json
from thinslice.service.node.commitment import (
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    Commitments,
    request_of,
)
from thinslice.service.node.receiver import quiet_pynetdicom
from thinslice.service.node.settings import Target, Tls
from thinslice.service.node.transport import client_context
from thinslice.service.object_head import object_head

CONNECT_S = 20.0
ANSWER_S = 120.0

REPORT_WAIT_S = 5.0
"""Time that a target has to report storage commitment before the outbox looks again later."""

RELEASE_S = 30.0

REPORT_LIMIT_S = 24 * 3600.0
"""Time after which a report that did not come is asked for anew."""

SUCCESS = 0x0000
DUPLICATE = 0x0111
WARNINGS = (0xB000, 0xB006, 0xB007)
"""Answers of a target that stored an object, but with changes."""

Check = Callable[[], None]
"""Raises where the attempt must end; called before each object."""

Phase = Callable[[str, float], None]


class DeliveryError(OutputError):
    """A target did not take everything; it is tried again."""


@dataclass
class Progress:
    """What a target has of a series; kept in a file.

    Attributes:
        path: the file.
        taken: UIDs of the objects that it has taken.
        transaction: of the request of storage commitment that waits for its report; "" for none.
        asked_at_s: time of that request, seconds since 1970.
    """

    path: Path
    taken: set[str] = field(default_factory=set)
    transaction: str = ""
    asked_at_s: float = 0.0

    @classmethod
    def of(cls, path: Path) -> Progress:
        """Progress as an earlier attempt left it."""
        values = read_json(path) or {}
        return cls(path, set(values.get("taken", ())), values.get("transaction", ""), values.get("asked_at_s", 0.0))

    def write(self) -> None:
        """Write the file anew."""
        values = {"taken": sorted(self.taken), "transaction": self.transaction, "asked_at_s": self.asked_at_s}
        write_json(self.path, values)


@dataclass(frozen=True)
class Sender:
    """Sends series to one target.

    Args:
        title: AE title of the node.
        target: the target.
        tls: certificate of the node, for targets with TLS.
        commitments: reports of storage commitment.
    """

    title: str
    target: Target
    tls: Tls | None
    commitments: Commitments

    def send(self, paths: Sequence[Path], progress: Progress, *, phase: Phase, check: Check) -> dict[str, Any]:
        """Send what the target has not taken yet, then ask it to take responsibility.

        Args:
            paths: DICOM files of one series.
            progress: of earlier attempts; it is brought up to date.
            phase: called with the share that is sent.
            check: raises where the attempt must end.

        Returns:
            JSON values: number of objects, and how the target took responsibility.

        Raises:
            DeliveryError, OutputError: the target did not take everything, or has not reported yet.
        """
        files = [_stored_file(path) for path in paths]
        try:
            if self.target.url is not None:
                return self._send_by_web(files, progress, phase, check)
            return self._send_by_dicom(files, progress, phase, check)
        finally:
            progress.write()

    def _send_by_web(
        self, files: Sequence[StoredFile], progress: Progress, phase: Phase, check: Check
    ) -> dict[str, Any]:
        target = self.target
        missing = [file for file in files if file.instance_uid not in progress.taken]
        secret = credentials(token_file=target.token_file, login_file=target.login_file)
        client = connect(target.url or "", secret, authority=target.authority)

        def stored(portion: Sequence[StoredFile]) -> None:
            progress.taken.update(file.instance_uid for file in portion)
            phase("sending", len(progress.taken) / len(files))
            check()

        store(client, missing, stored)
        return {"objects": len(files), "commitment": "none"}

    def _send_by_dicom(
        self, files: Sequence[StoredFile], progress: Progress, phase: Phase, check: Check
    ) -> dict[str, Any]:
        if self._has_report(files, progress):
            return {"objects": len(files), "commitment": "kept"}
        missing = [file for file in files if file.instance_uid not in progress.taken]
        arrived = threading.Event()
        answering: list[threading.Thread] = []

        def report(event: Event) -> tuple[int, None]:
            self.commitments.report(event.event_information, complete=event.event_type == 1)
            answering.append(threading.current_thread())
            arrived.set()
            return SUCCESS, None

        with self._associated({file.class_uid for file in files}, report) as association:
            for file in missing:
                check()
                self._store(association, file)
                progress.taken.add(file.instance_uid)
                phase("sending", len(progress.taken) / len(files))
            if not self.target.commitment:
                return {"objects": len(files), "commitment": "none"}
            if not _accepts(association, STORAGE_COMMITMENT):
                return {"objects": len(files), "commitment": "not offered"}
            if not progress.transaction:
                self._ask(association, files, progress)
            arrived.wait(REPORT_WAIT_S)
            # pynetdicom answers a report in a thread of its own, and must not release before that has ended.
            for thread in answering:
                thread.join()
        if self._has_report(files, progress):
            return {"objects": len(files), "commitment": "kept"}
        raise DeliveryError(
            f"The target {self.target.name} has all objects, and has not confirmed yet that it keeps them."
        )

    def _ask(self, association: Association, files: Sequence[StoredFile], progress: Progress) -> None:
        """Request storage commitment; the transaction is noted before, so that no report is missed."""
        progress.transaction, progress.asked_at_s = str(generate_uid()), time.time()
        self.commitments.announce(progress.transaction)
        progress.write()
        request = request_of(progress.transaction, [(file.class_uid, file.instance_uid) for file in files])
        status, _ = association.send_n_action(request, REQUEST_COMMITMENT, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
        if status.get("Status") != SUCCESS:
            self.commitments.forget(progress.transaction)
            progress.transaction = ""
            raise DeliveryError(f"The target {self.target.name} refused a request of storage commitment.")

    def _has_report(self, files: Sequence[StoredFile], progress: Progress) -> bool:
        """Whether the target has taken responsibility for everything; what it lacks is sent again."""
        if not progress.transaction:
            return False
        answer = self.commitments.answer(progress.transaction)
        if answer is None:
            if time.time() - progress.asked_at_s > REPORT_LIMIT_S:
                self.commitments.forget(progress.transaction)
                progress.transaction = ""
            return False
        self.commitments.forget(progress.transaction)
        progress.transaction = ""
        lacking = {file.instance_uid for file in files} - answer.kept
        progress.taken -= lacking | answer.failed
        return not lacking

    @contextmanager
    def _associated(self, class_uids: set[str], report: Callable[[Event], tuple[int, None]]) -> Iterator[Association]:
        target = self.target
        quiet_pynetdicom()
        application = AE(ae_title=self.title)
        application.connection_timeout = CONNECT_S
        application.acse_timeout = CONNECT_S
        application.dimse_timeout = application.network_timeout = ANSWER_S
        for class_uid in sorted(class_uids):
            application.add_requested_context(class_uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        if target.commitment:
            application.add_requested_context(STORAGE_COMMITMENT)
        tls: tuple[ssl.SSLContext, str] | None = None
        if target.tls:
            own = self.tls
            context = client_context(
                target.authority, None if own is None else own.certificate, None if own is None else own.key
            )
            tls = (context, target.host or "")
        try:
            association = application.associate(
                target.host or "",
                target.port or 0,
                ae_title=target.ae_title or "",
                tls_args=tls,
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)],
            )
        except OSError as error:  # a name that cannot be resolved
            raise DeliveryError(f"The target {target.name} cannot be reached.") from error
        if not association.is_established:
            refused = "refuses this node" if association.is_rejected else "cannot be reached"
            raise DeliveryError(f"The target {target.name} {refused}.")
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        else:
            _release(association)

    def _store(self, association: Association, file: StoredFile) -> None:
        target = self.target
        if not association.is_established:
            raise DeliveryError(f"The connection to the target {target.name} broke.")
        if not _accepts(association, file.class_uid):
            raise DeliveryError(f"The target {target.name} takes no objects of this class.")
        try:
            status = association.send_c_store(file.path)
        except (OSError, RuntimeError, ValueError) as error:
            raise DeliveryError(f"The connection to the target {target.name} broke.") from error
        code = status.get("Status")
        if code is None:
            raise DeliveryError(f"The connection to the target {target.name} broke.")
        if code not in (SUCCESS, DUPLICATE, *WARNINGS):
            raise DeliveryError(f"The target {target.name} did not take an object (status {code:04X}).")


def _release(association: Association) -> None:
    """Release an association; pynetdicom would wait for ever where a report comes in at this very moment."""
    releasing = threading.Thread(target=association.release, daemon=True)
    releasing.start()
    releasing.join(RELEASE_S)
    if releasing.is_alive():
        association.abort()


def _accepts(association: Association, class_uid: str) -> bool:
    return any(context.abstract_syntax == class_uid for context in association.accepted_contexts)


def _stored_file(path: Path) -> StoredFile:
    head = object_head(path)
    return StoredFile(path, head.study_uid, head.series_uid, head.instance_uid, head.class_uid)
