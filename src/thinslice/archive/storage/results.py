"""Where results appear, each once: under a folder, or in a store of objects by a manifest that is made once.

In a store the objects of an attempt lie below a name of its own, `OUTPUT/ATTEMPT/`, and count for nothing until
`OUTPUT.json` names them. That manifest is written last, and only if there is none (If-None-Match): of two attempts one
wins, and an attempt that is killed leaves objects that no manifest names, which the winner removes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from thinslice.about import NOTICE, __version__
from thinslice.archive.storage.store import ObjectStore, is_store
from thinslice.commands.batch_records import SeriesRow
from thinslice.commands.batch_sources import Source
from thinslice.commands.one_of_many import HowToUpscale, make_folder
from thinslice.errors import OutputBusyError, OutputError, OutputExistsError
from thinslice.options import option
from thinslice.system.files import sha256_of

if TYPE_CHECKING:
    from thinslice.archive.plan_file import PlanFile

SCHEMA = "thinslice-archive-result/1"


class StoredObject(BaseModel):
    """An object of a result.

    Attributes:
        name: below the place of all outputs.
        size: bytes.
        sha256: of its content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int = Field(ge=0)
    sha256: str


class Manifest(BaseModel):
    """What makes a result in a store visible, and names all its objects; nothing in it identifies a patient.

    Attributes:
        schema_name: `schema` in JSON.
        thinslice_version: version of the software.
        notice: uses that are excluded.
        attempt: random name of the attempt that made it.
        settings: that decide voxels and files.
        source: digest of the files that were read.
        objects: of the result.
        row: as in the summary of a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_name: str = Field(default=SCHEMA, alias="schema")
    thinslice_version: str = __version__
    notice: str = NOTICE
    attempt: str
    settings: dict[str, JsonValue]
    source: str
    objects: tuple[StoredObject, ...]
    row: SeriesRow


class Results(Protocol):
    """A place of outputs."""

    is_local: bool

    def prepare(self) -> None:
        """Make what all results share."""
        ...

    def is_there(self, source: Source) -> bool:
        """Whether there may be a result of this name; `make` decides what it is."""
        ...

    def make(self, source: Source, how: HowToUpscale, scratch: Path | None, upscale: Upscale) -> SeriesRow:
        """Make a result, unless an earlier run has; its row is "done" or "skipped".

        Args:
            source: the series.
            how: settings; its `out` is set here.
            scratch: folder for files that are to be sent; a folder needs none.
            upscale: does it, with these settings.
        """
        ...


Upscale = Callable[[HowToUpscale], SeriesRow]


@dataclass(frozen=True)
class FolderResults:
    """Results below a folder.

    Attributes:
        out: the folder.
    """

    out: Path
    is_local: bool = True

    def prepare(self) -> None:
        """As in `Results`."""
        make_folder(self.out / ".thinslice")

    def is_there(self, source: Source) -> bool:
        """As in `Results`."""
        return (self.out / source.output).exists()

    def make(self, source: Source, how: HowToUpscale, scratch: Path | None, upscale: Upscale) -> SeriesRow:
        """As in `Results`."""
        return upscale(replace(how, out=self.out))


@dataclass(frozen=True)
class StoreResults:
    """Results below a prefix of a store.

    Attributes:
        store: at that prefix.
    """

    store: ObjectStore
    is_local: bool = False

    def prepare(self) -> None:
        """As in `Results`."""

    def is_there(self, source: Source) -> bool:
        """As in `Results`."""
        return self.store.read(_manifest_name(source)) is not None

    def manifest(self, source: Source) -> Manifest | None:
        """The manifest of a result; None where there is none.

        Raises:
            OutputError: an object of that name is no manifest.
        """
        content = self.store.read(_manifest_name(source))
        if content is None:
            return None
        try:
            return Manifest.model_validate_json(content)
        except ValidationError:
            raise OutputError(
                f"{_manifest_name(source)!r} is there, and no thinslice of this version made it; choose another place "
                "for the outputs."
            ) from None

    def make(self, source: Source, how: HowToUpscale, scratch: Path | None, upscale: Upscale) -> SeriesRow:
        """As in `Results`."""
        there = self.manifest(source)
        if there is not None and _is_same(there, source, how):
            return _again(there)
        if there is not None and not how.overwrite:
            raise OutputExistsError(
                "An earlier run made this output with other settings, or from files that have changed since; pass "
                f"{option('overwrite', True)} to make it again, or choose another output folder."
            )
        if scratch is None:
            raise OutputError("A result that is sent to a store needs a scratch folder.")
        out = scratch / "out"
        make_folder(out / ".thinslice")
        row = upscale(replace(how, out=out))
        return self._commit(source, how, row, out / source.output, replaces=there is not None)

    def _commit(self, source: Source, how: HowToUpscale, row: SeriesRow, made: Path, *, replaces: bool) -> SeriesRow:
        attempt = uuid.uuid4().hex[:12]
        files = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
        base = made if made.is_dir() else made.parent
        names = [f"{source.output.as_posix()}/{attempt}/{path.relative_to(base).as_posix()}" for path in files]
        objects = tuple(
            StoredObject(name=name, size=path.stat().st_size, sha256=sha256_of(path))
            for name, path in zip(names, files, strict=True)
        )
        manifest = Manifest(attempt=attempt, settings=how.fingerprint, source=source.digest(), objects=objects, row=row)
        self.store.put(files, names)
        if replaces:
            self.store.remove([_manifest_name(source)])
        content = manifest.model_dump_json(by_alias=True, indent=1) + "\n"
        if not self.store.make_once(_manifest_name(source), content.encode()):
            self.store.remove(names)
            winner = self.manifest(source)
            if winner is None or not _is_same(winner, source, how):
                raise OutputExistsError("Another run made this output with other settings; choose another place.")
            row = _again(winner)
            names = [each.name for each in winner.objects]
        kept, there = set(names), [each.name for each in self.store.below(source.output.as_posix())]
        if not kept <= set(there):
            # A run with other settings has taken them for remains.
            self.store.remove([_manifest_name(source)])
            raise OutputBusyError("Another run makes the same output with other settings; end one of them.")
        self.store.remove(name for name in there if name not in kept)
        return row


def results_of(plan: PlanFile) -> FolderResults | StoreResults:
    """Where the results of a plan appear."""
    return StoreResults(ObjectStore(plan.out)) if is_store(plan.out) else FolderResults(Path(plan.out))


def _manifest_name(source: Source) -> str:
    return f"{source.output.as_posix()}.json"


def _is_same(manifest: Manifest, source: Source, how: HowToUpscale) -> bool:
    return (manifest.settings, manifest.source) == (how.fingerprint, source.digest())


def _again(manifest: Manifest) -> SeriesRow:
    update: dict[str, Any] = {"status": "skipped", "reason": "done by an earlier run", "seconds": 0.0}
    return manifest.row.model_copy(update=update)
