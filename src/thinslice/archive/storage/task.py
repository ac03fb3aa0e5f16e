"""A job of a plan with all that a worker needs to know of the catalogue: names and numbers, never voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from thinslice.archive.catalogue import Catalogue
from thinslice.archive.storage.store import is_store
from thinslice.commands.batch_sources import Source


@dataclass(frozen=True)
class SeriesTask:
    """One series to be upscaled; it travels to other machines as JSON values.

    Attributes:
        spec: of the job.
        root: of the archive, a folder or a URL.
        stamps: path below the root, size and time of change of each file when it was scanned.
    """

    spec: Mapping[str, Any]
    root: str
    stamps: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, catalogue: Catalogue, spec: Mapping[str, Any]) -> SeriesTask:
        """The task of a job.

        Args:
            catalogue: of the archive.
            spec: of the job.
        """
        return cls(spec, catalogue.root, tuple(catalogue.stamps(spec["collection"])))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> SeriesTask:
        """The task that `values` gave."""
        stamps = tuple((path, size, changed_ns) for path, size, changed_ns in values["stamps"])
        return cls(values["spec"], values["root"], stamps)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @property
    def is_stored(self) -> bool:
        """Whether its files are objects of a store."""
        return is_store(self.root)

    @property
    def read_bytes(self) -> int:
        """Size of its files."""
        return sum(size for _, size, _ in self.stamps)

    def source(self, paths: Sequence[Path] | None = None) -> Source:
        """Its files as `thinslice.commands` takes them.

        Args:
            paths: where they lie on this machine; at their places below the root unless set.
        """
        spec = self.spec
        return Source(
            paths=tuple(Path(self.root, path) for path, _, _ in self.stamps) if paths is None else tuple(paths),
            kind="CT",
            output=PurePosixPath(spec["out"]),
            output_format=spec["format"],
            shown=spec["series"],
            stamps=self.stamps,
            series_uid=spec["series"].split("#")[0],
            series=spec["series"],
        )
