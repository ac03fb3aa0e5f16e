"""The receiving side of a node: C-ECHO, C-STORE, and reports of storage commitment.

An object is on the disk under its final name before success is answered. The receiver reads the UIDs of an object and
nothing else: pixels are decoded by workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from thinslice.errors import ResourceError, ThinsliceError, UsageError
from thinslice.service.node.commitment import STORAGE_COMMITMENT, Commitments
from thinslice.service.node.inbox import Inbox, identity_of
from thinslice.service.node.settings import GIB, NodeSettings
from thinslice.service.node.transport import BoundedServer, server_context
from thinslice.service.object_head import DamagedObjectError

VERIFICATION = UID("1.2.840.10008.1.1")
"""SOP class of C-ECHO."""

STORED = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""Storage SOP classes that are taken."""

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
    "1.2.840.113619.5.2",
)
"""Transfer syntaxes in which objects are taken: those that the reader decodes."""

SUCCESS = 0x0000
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

CLOSING_S = 5.0

Log = Callable[..., None]
"""Writes one line about an event: its name, and values that identify nobody."""


class Receiver:
    """Listens for callers, as a context manager.

    Args:
        settings: of the node.
        inbox: takes objects.
        commitments: takes reports of storage commitment.
        log: writes lines about events.

    Attributes:
        counts: events so far: "received", "repeated", "refused", "associations", "rejected".
        port: the port that is listened on.

    Raises:
        UsageError: the port cannot be listened on, or the certificate cannot be read; correct the settings.
    """

    def __init__(self, settings: NodeSettings, inbox: Inbox, commitments: Commitments, log: Log) -> None:
        self._settings = settings
        self._inbox = inbox
        self._commitments = commitments
        self._log = log
        self._parsing = threading.BoundedSemaphore(4)
        self._count_lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._ae = self._application()
        self._server = self._bound()
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    def __enter__(self) -> Receiver:
        # Objects are written to a file as they come in: memory does not grow with their size. pynetdicom takes the
        # usual folder of temporary files, and only one on the same disk can be renamed from.
        self._before = _config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir
        _config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir = True, str(self._inbox.arriving)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ae._servers.append(self._server)  # type: ignore[arg-type]
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
        self._thread.join(CLOSING_S)
        _config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir = self._before

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return self._server.connections

    @property
    def closed_at_once(self) -> int:
        """Connections that were closed because a bound was reached or their address is unknown."""
        return self._server.refused

    def _application(self) -> AE:
        settings = self._settings
        quiet_pynetdicom()
        application = AE(ae_title=settings.ae_title)
        application.require_called_aet = True
        application.require_calling_aet = list(settings.titles)
        application.maximum_associations = settings.limits.associations
        application.maximum_pdu_size = settings.limits.pdu_kib * 1024
        application.network_timeout = settings.limits.idle_s
        application.acse_timeout = settings.limits.idle_s
        application.dimse_timeout = settings.limits.idle_s
        application.add_supported_context(VERIFICATION)
        for sop_class in STORED:
            application.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        # An archive that reports storage commitment calls in the role of the provider.
        application.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
        return application

    def _bound(self) -> BoundedServer:
        settings = self._settings
        addresses = [caller.address for caller in settings.callers]
        # Targets report storage commitment from addresses that are not known beforehand.
        reports = any(target.commitment and target.ae_title for target in settings.targets)
        networks = None if reports or None in addresses else tuple(address for address in addresses if address)
        try:
            context = None
            if settings.tls is not None:
                context = server_context(settings.tls.certificate, settings.tls.key, settings.tls.authority)
            made: Any = self._ae.make_server(
                (settings.host, settings.port),
                ssl_context=context,
                evt_handlers=[
                    (evt.EVT_C_ECHO, self._echo),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_EVENT_REPORT, self._report),
                    (evt.EVT_DIMSE_RECV, self._complete),
                    (evt.EVT_ACCEPTED, self._accepted),
                    (evt.EVT_REJECTED, self._rejected),
                    (evt.EVT_CONN_CLOSE, self._closed),
                ],
                server_class=BoundedServer,
                limits=settings.limits,
                networks=networks,
            )
            return cast(BoundedServer, made)
        except ssl.SSLError as error:
            raise UsageError(
                "The certificate or the key of the node cannot be read, or they do not belong together; check tls in "
                "the settings."
            ) from error
        except OSError as error:
            raise UsageError(
                f"{settings.host} port {settings.port} cannot be listened on ({error.strerror}); choose another "
                "host or port."
            ) from error

    # Events of associations, each in the thread of its own

    def _accepted(self, event: Event) -> None:
        self._count("associations")
        self._log("association", caller=_title(event.assoc), address=event.assoc.requestor.address)

    def _rejected(self, event: Event) -> None:
        self._count("rejected")
        self._log("rejected", address=event.assoc.requestor.address)

    def _complete(self, event: Event) -> None:
        self._server.message_complete(event.assoc)

    def _closed(self, event: Event) -> None:
        """Remove the file of an object that did not come in whole."""
        message = event.assoc.dimse.message
        unfinished = None if message is None else message._data_set_file
        if unfinished is not None:
            with contextlib.suppress(OSError):
                unfinished.close()
            with contextlib.suppress(OSError):
                Path(unfinished.name).unlink()

    def _echo(self, event: Event) -> int:
        return SUCCESS if self._knows(event.assoc) else NOT_AUTHORISED

    def _store(self, event: Event) -> int:
        try:
            status = self._stored(event)
        except Exception:  # the answer to a caller must not depend on which error it provoked
            status = CANNOT_UNDERSTAND
        if status != SUCCESS:
            self._count("refused")
            self._log("refused-object", caller=_title(event.assoc), status=f"{status:04X}")
        return status

    def _stored(self, event: Event) -> int:
        settings = self._settings
        if not self._knows(event.assoc):
            return NOT_AUTHORISED
        if shutil.disk_usage(self._inbox.incoming).free < settings.limits.free_gib * GIB:
            return OUT_OF_RESOURCES
        request = cast(Any, event.request)
        arrived: Path = event.dataset_path
        file = request._dataset_file
        file.flush()
        os.fsync(file.fileno())
        try:
            with self._parsing, arrived.open("rb") as stream:
                identity = identity_of(stream, arrived.stat().st_size)
        except DamagedObjectError:
            return CANNOT_UNDERSTAND
        if identity.instance_uid != str(UID(str(request.AffectedSOPInstanceUID))):
            return DOES_NOT_MATCH
        try:
            is_new = self._inbox.keep(arrived, identity, _title(event.assoc))
        except ResourceError:
            return OUT_OF_RESOURCES
        except ThinsliceError:
            return OUT_OF_RESOURCES
        self._count("received" if is_new else "repeated")
        return SUCCESS

    def _report(self, event: Event) -> tuple[int, None]:
        """Take a report of storage commitment."""
        information = event.event_information
        self._commitments.report(information, complete=event.event_type == 1)
        self._log("commitment", caller=_title(event.assoc))
        return SUCCESS, None

    def _knows(self, association: Association) -> bool:
        return self._settings.caller(_title(association), association.requestor.address) is not None

    def _count(self, name: str) -> None:
        with self._count_lock:
            self.counts[name] += 1


def quiet_pynetdicom() -> None:
    """Silence pynetdicom's log, whose lines quote what callers send."""
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def _title(association: Association) -> str:
    return association.requestor.ae_title.strip()
