"""Settings of a node as one frozen, checked value, read from a TOML file.

    ae_title = "THINSLICE"
    data = "data"

    [[caller]]
    ae_title = "CT1"
    address = "10.1.2.3"

    [[target]]
    name = "pacs"
    ae_title = "PACS"
    host = "10.1.2.10"
    port = 104

    [[rule]]
    name = "soft-chest"
    [rule.when]
    body_part = "CHEST"

Rules are those of `thinslice.recipes.series_rules`. Relative paths start at the folder of the file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from thinslice.errors import UsageError
from thinslice.recipes.checked import Checked, read_toml
from thinslice.recipes.names import FileStem
from thinslice.recipes.series_rules import EVERYTHING, SeriesRule, check_names

DEFAULT_PORT = 11112
DEFAULT_STATUS_PORT = 8378

MIB, GIB = 2**20, 2**30


def check_ae_title(title: str) -> str:
    r"""An AE title as DICOM permits: 1 to 16 characters of ASCII without backslash, not only spaces.

    Raises:
        ValueError: for any other text.

    >>> check_ae_title(" CT1 ")
    'CT1'
    """
    title = title.strip(" ")
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash")
    return title


def _check_address(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


AeTitle = Annotated[str, AfterValidator(check_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, AfterValidator(_check_address)]
"""An IP address, or a network such as 10.1.0.0/16."""


class Caller(Checked):
    """An application that may send series.

    Attributes:
        ae_title: its title.
        address: where it calls from; None for everywhere.
    """

    ae_title: AeTitle
    address: Address | None = None

    def calls_from(self, address: str) -> bool:
        """Whether the caller may call from an IP address.

        >>> Caller(ae_title="CT1", address="10.1.0.0/16").calls_from("10.1.2.3")
        True
        """
        return self.address is None or is_within(address, [self.address])


class Target(Checked):
    """An archive that receives the thin series: by C-STORE, or by STOW-RS where it has a `url`.

    Attributes:
        name: of the target, for lists and rules.
        ae_title: its title.
        host: its name or address.
        port: its port.
        tls: encrypt, with the certificate of `Tls` where one is set.
        commitment: ask it to take responsibility (storage commitment), where it offers that.
        url: of its DICOMweb service, in place of AE title, host and port.
        token_file: holds a bearer token for `url`.
        login_file: holds "user:password" for `url`.
        authority: certificates (PEM) that its certificate is checked with; None for those of the system.
    """

    name: FileStem
    ae_title: AeTitle | None = None
    host: str | None = Field(default=None, min_length=1, max_length=253)
    port: Port | None = None
    tls: bool = False
    commitment: bool = True
    url: str | None = None
    token_file: Path | None = None
    login_file: Path | None = None
    authority: Path | None = None

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        dicom = (self.ae_title, self.host, self.port)
        if self.url is None and None in dicom:
            raise ValueError("a target has ae_title, host and port, or a url")
        if self.url is not None:
            if any(value is not None for value in dicom) or self.tls:
                raise ValueError("a target has ae_title, host and port, or a url, not both")
            if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
                raise ValueError("url begins with https:// or http:// and a name")
        elif self.token_file is not None or self.login_file is not None:
            raise ValueError("token_file and login_file go with a url")
        if self.token_file is not None and self.login_file is not None:
            raise ValueError("give token_file or login_file")
        return self


class Tls(Checked):
    """Encryption of the node's port.

    Attributes:
        certificate: of the node (PEM), with its chain.
        key: private key of the certificate (PEM).
        authority: certificates (PEM) by one of which callers' certificates must be signed; None asks for none.
    """

    certificate: Path
    key: Path
    authority: Path | None = None


class Limits(Checked):
    """Bounds on what callers can take.

    Attributes:
        associations: at once.
        per_address: connections at once from one address.
        pdu_kib: largest PDU, in KiB.
        object_mib: largest object, in MiB.
        free_gib: space that stays free on the disk; below it objects are refused.
        idle_s: time after which a silent association is ended.
        begin_s: time that a connection has to ask for an association.
    """

    associations: int = Field(default=32, ge=1, le=1000)
    per_address: int = Field(default=16, ge=1, le=1000)
    pdu_kib: int = Field(default=256, ge=4, le=16 * 1024)
    object_mib: int = Field(default=4096, ge=1, le=64 * 1024)
    free_gib: float = Field(default=5.0, ge=0.0)
    idle_s: float = Field(default=60.0, gt=0.0)
    begin_s: float = Field(default=10.0, gt=0.0)


class NodeSettings(Checked):
    """Settings of a node.

    Attributes:
        ae_title: of the node.
        host: address that it listens on.
        port: its port.
        data: folder of received series, results and the queue; made if absent.
        stable_s: a study is complete when nothing came for it for so many seconds.
        keep_days: received series and results that were sent are removed after so many days.
        give_up_hours: a target that cannot be reached is tried for so long.
        workers: series that are upscaled at once; each takes the memory of a run.
        threads: CPU threads of each worker; None for all cores.
        device: device of the runs.
        status_port: port of the status page and the metrics, on this computer alone.
        callers: who may send.
        targets: where thin series go.
        rules: which series are upscaled, and how.
        tls: encryption of the port; None for none.
        limits: bounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    ae_title: AeTitle = "THINSLICE"
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    data: Path
    stable_s: float = Field(default=60.0, gt=0.0)
    keep_days: float = Field(default=3.0, gt=0.0)
    give_up_hours: float = Field(default=72.0, gt=0.0)
    workers: int = Field(default=1, ge=1, le=64)
    threads: int | None = Field(default=None, ge=1)
    device: str = "auto"
    status_port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_STATUS_PORT
    callers: tuple[Caller, ...] = Field(alias="caller", min_length=1)
    targets: tuple[Target, ...] = Field(alias="target", default=())
    rules: tuple[SeriesRule, ...] = Field(alias="rule", default=EVERYTHING.rules, min_length=1)
    tls: Tls | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        check_names(self.rules)
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            raise ValueError("two targets have the same name; give each its own")
        for rule in self.rules:
            if rule.take and rule.run.format == "nifti":
                raise ValueError(f"rule {rule.name!r}: a node makes DICOM; take format dicom or dicom-enhanced")
        return self

    @property
    def titles(self) -> tuple[str, ...]:
        """AE titles that may open an association: callers, and targets, which report storage commitment."""
        callers = [caller.ae_title for caller in self.callers]
        return tuple(dict.fromkeys([*callers, *(target.ae_title for target in self.targets if target.ae_title)]))

    def caller(self, title: str, address: str) -> Caller | None:
        """The caller with an AE title at an address; None for a stranger."""
        return next((one for one in self.callers if one.ae_title == title and one.calls_from(address)), None)

    def target(self, name: str) -> Target | None:
        """The target of a name; None where there is none."""
        return next((target for target in self.targets if target.name == name), None)

    def rule(self, name: str) -> SeriesRule | None:
        """The rule of a name; None where there is none."""
        return next((rule for rule in self.rules if rule.name == name), None)


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an IP address lies in one of the networks; an IPv4 address may be written as IPv6.

    >>> is_within("::ffff:10.1.2.3", ["10.1.2.0/24"]), is_within("10.1.3.3", ["10.1.2.0/24"])
    (True, False)
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    plain = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(plain in ipaddress.ip_network(network) for network in networks)


def read_node_settings(path: Path) -> NodeSettings:
    """Read and check the settings of a node.

    Args:
        path: TOML file.

    Raises:
        UsageError: the file is missing, not TOML, has an unknown key or a wrong value, or names a file that is not
            there; the message names it.
    """
    settings = _at(path.absolute().parent, read_toml(path, NodeSettings))
    files: list[tuple[str, Path | None]] = []
    if settings.tls is not None:
        files += [(f"tls.{name}", getattr(settings.tls, name)) for name in ("certificate", "key", "authority")]
    for target in settings.targets:
        files += [
            (f"target {target.name}, {name}", getattr(target, name))
            for name in ("token_file", "login_file", "authority")
        ]
    for key, file in files:
        if file is not None and not file.is_file():
            raise UsageError(f"{path.name}, {key}: there is no file {str(file)!r}; correct it.")
    return settings


def _at(folder: Path, settings: NodeSettings) -> NodeSettings:
    """The settings with absolute paths."""

    def placed(part: Any, names: Iterable[str]) -> dict[str, Path]:
        return {name: folder / getattr(part, name) for name in names if getattr(part, name) is not None}

    changes: dict[str, Any] = placed(settings, ["data"])
    changes["targets"] = tuple(
        target.model_copy(update=placed(target, ("token_file", "login_file", "authority")))
        for target in settings.targets
    )
    if settings.tls is not None:
        changes["tls"] = settings.tls.model_copy(update=placed(settings.tls, ("certificate", "key", "authority")))
    return settings.model_copy(update=changes)
