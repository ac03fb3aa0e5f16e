"""A server of associations that hostile callers cannot exhaust: bounded connections, PDUs, messages and waiting.

pynetdicom reads whatever length a PDU claims, keeps whatever a message brings, and shakes hands for TLS in the thread
that accepts connections. Here each of these has a bound, and a connection beyond it is closed.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer, RequestHandler

from thinslice.service.node.settings import MIB, Limits, is_within

HEAD_BYTES = 6
"""Bytes of the head of a PDU: type and length."""

MOST_COMMAND_BYTES = 64 << 10
"""Largest command of a message."""

MOST_DATASET_BYTES = 8 << 20
"""Largest dataset of a message that carries no object, such as a report of storage commitment."""

MOST_WAITING = 8
"""Messages that may wait for their answer; the node negotiates one."""

CHUNK_BYTES = 64 << 10

HAND_SHAKES_S = 10.0


class BoundExceededError(OSError):
    """A caller went beyond a bound; pynetdicom takes it as the end of the connection."""


class BoundedReceiver:
    """Reads from the socket of one association within bounds, in place of `AssociationSocket.recv`.

    Args:
        association: the association; its socket is set.
        limits: bounds.
    """

    def __init__(self, association: Association, limits: Limits) -> None:
        self._association = association
        self._limits = limits
        self._message_bytes = 0
        self._shaken = False

    def message_complete(self) -> None:
        """Note that a message has come in whole."""
        self._message_bytes = 0

    def receive(self, count: int) -> bytearray:
        """Exactly `count` bytes, or fewer where the connection ends.

        Raises:
            BoundExceededError: the PDU or the message is too large, or comes too slowly.
        """
        connection = self._association.dul.socket.socket  # type: ignore[union-attr]
        if connection is None:
            return bytearray()
        try:
            self._check(count)
            if isinstance(connection, ssl.SSLSocket) and not self._shaken:
                connection.settimeout(HAND_SHAKES_S)
                connection.do_handshake()
                self._shaken = True
            until_s = time.monotonic() + self._limits.idle_s
            received = bytearray()
            while len(received) < count:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise BoundExceededError("a PDU came too slowly")
                connection.settimeout(left_s)
                chunk = connection.recv(min(CHUNK_BYTES, count - len(received)))
                if not chunk:
                    break
                received += chunk
            self._message_bytes += len(received)
            return received
        except OSError:
            with contextlib.suppress(OSError):
                connection.close()
            raise
        finally:
            with contextlib.suppress(OSError):
                connection.settimeout(self._limits.idle_s)

    def _check(self, count: int) -> None:
        limits = self._limits
        if count > limits.pdu_kib * 1024 + HEAD_BYTES:
            raise BoundExceededError("a PDU is too large")
        if self._message_bytes + count > limits.object_mib * MIB + MIB:
            raise BoundExceededError("an object is too large")
        dimse = self._association.dimse
        if dimse.msg_queue.qsize() > MOST_WAITING:
            raise BoundExceededError("too many messages wait for their answers")
        message = dimse.message
        if message is not None:
            dataset_bytes = 0 if message.data_set is None else message.data_set.tell()
            if message.encoded_command_set.tell() > MOST_COMMAND_BYTES or dataset_bytes > MOST_DATASET_BYTES:
                raise BoundExceededError("a command is too large")


class _Handler(RequestHandler):
    """Starts an association with bounds on a connection."""

    server: BoundedServer

    def _create_association(self) -> Association:
        association = super()._create_association()
        limits = self.server.limits
        receiver = BoundedReceiver(association, limits)
        association.dul.socket.recv = receiver.receive  # type: ignore[method-assign, union-attr]
        association.dul.artim_timer.timeout = limits.begin_s
        self.server.connected(association, receiver)
        return association


class BoundedServer(AssociationServer):
    """Accepts connections within bounds; each association has a thread of its own.

    Args:
        limits: bounds.
        networks: addresses that may connect; None for all.
        given: what `AssociationServer` takes.
        named: what `AssociationServer` takes by name.

    Attributes:
        refused: connections that were closed at once.
    """

    request_queue_size = 128

    def __init__(self, *given: Any, limits: Limits, networks: tuple[str, ...] | None, **named: Any) -> None:
        self.limits = limits
        self.refused = 0
        self._networks = networks
        self._open: dict[Association, tuple[str, BoundedReceiver]] = {}
        named["request_handler"] = _Handler
        super().__init__(*given, **named)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; the shaking of hands for TLS is left to the thread of its association."""
        listening: Any = self.socket
        connection, address = listening.accept()
        connection.settimeout(self.limits.idle_s)
        if self.ssl_context is None:
            return connection, address
        try:
            wrapped = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError:
            connection.close()
            raise
        return wrapped, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is within the bounds; it is closed otherwise."""
        for association in [one for one in self._open if not one.is_alive()]:
            del self._open[association]
        address = str(client_address[0])
        from_there = sum(1 for one, _ in self._open.values() if one == address)
        fits = (
            len(self._open) < 2 * self.limits.associations
            and from_there < self.limits.per_address
            and (self._networks is None or is_within(address, self._networks))
        )
        self.refused += not fits
        return fits

    def connected(self, association: Association, receiver: BoundedReceiver) -> None:
        """Note the association of a new connection."""
        self._open[association] = (association.requestor.address, receiver)

    def message_complete(self, association: Association) -> None:
        """Note that a message of an association has come in whole."""
        entry = self._open.get(association)
        if entry is not None:
            entry[1].message_complete()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a connection that failed; the default would print a traceback."""

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return sum(association.is_alive() for association in list(self._open))


def server_context(certificate: Path, key: Path, authority: Path | None) -> ssl.SSLContext:
    """TLS of a server; with an authority, callers must show a certificate that it signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS of a client, which shows a certificate where it has one."""
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
