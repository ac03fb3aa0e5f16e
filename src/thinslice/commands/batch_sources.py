"""Volumes below a folder that a batch may upscale, and names for their outputs that identify nobody."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from thinslice.commands.neutral_names import are_neutral, digest_of, neutral_place, suffix_of
from thinslice.errors import UnreadableError

if TYPE_CHECKING:
    from thinslice.io.dicom.files.header import SliceHeader
    from thinslice.io.dicom.read import DicomInput
    from thinslice.io.settings import ReadSettings

VOLUME_SUFFIXES = {
    ".nii": ("NIfTI", "nifti", ".nii.gz"),
    ".nii.gz": ("NIfTI", "nifti", ".nii.gz"),
    ".nrrd": ("NRRD", "nrrd", ".nrrd"),
    ".nhdr": ("NRRD", "nrrd", ".nrrd"),
    ".mha": ("MetaImage", "metaimage", ".mha"),
    ".mhd": ("MetaImage", "metaimage", ".mha"),
}
"""Files of one volume: kind, format of the output, and its suffix."""

MOST_HEADERS = 4000
"""Headers of slices that a search keeps for the reading of their series; those of further series are read twice."""


@dataclass(frozen=True)
class Source:
    """One DICOM series, or one file of another format.

    Attributes:
        paths: its files; archives count as one file.
        kind: "CT", "CT localizer", "NIfTI" and so on.
        output: of this volume, relative to the output folder.
        output_format: "dicom", "nifti", "nrrd" or "metaimage".
        shown: its place for the user's own terminal, relative to the folder; not for files, as it may name a patient.
        place: the place of a file that is no part of a known series, with stand-ins for names that may be a patient's;
            None for a series.
        stamps: size and time of change of each file.
        series_uid: the name of a DICOM series; None for other formats.
        series: the value that chooses it, or a part of it, among its files.
        left_out: reason why there is nothing to do; "" for a candidate.
        fault: reason why it cannot be read; "" where that is not known yet.
        headers: of its slices as the search has read them; empty where they were too many to keep.
    """

    paths: tuple[Path, ...]
    kind: str
    output: PurePosixPath
    output_format: str
    shown: str
    stamps: tuple[tuple[str, int, int], ...]
    series_uid: str | None = None
    series: str | None = None
    place: str | None = None
    left_out: str = ""
    fault: str = ""
    headers: list[SliceHeader] = field(default_factory=list, compare=False, repr=False)

    @property
    def is_candidate(self) -> bool:
        """Whether it may be upscaled."""
        return not (self.left_out or self.fault)

    @property
    def weight(self) -> int:
        """Bytes of its files, for the time that is left; 0 when it is left out."""
        return sum(size for _, size, _ in self.stamps) if self.is_candidate else 0

    def digest(self) -> str:
        """Digest of the place, size and time of change of all files: it differs once one of them was changed."""
        return hashlib.sha256(json.dumps([self.series, sorted(self.stamps)]).encode()).hexdigest()

    def opened(self, folder: Path) -> DicomInput:
        """The DICOM series, of the headers that the search has read, unless its files have changed since.

        The headers are given up: a batch takes each series once.

        Args:
            folder: that was searched.

        Raises:
            UnreadableError: none of its files is DICOM any more.
        """
        from thinslice.io.dicom.read import DicomInput

        headers = list(self.headers)
        self.headers.clear()
        if headers and _stamps(self.paths, folder) == self.stamps:
            return DicomInput(headers)
        return DicomInput.of(self.paths)

    def reading(self, asked: ReadSettings) -> ReadSettings:
        """The options of a batch that apply to a source of this format; reading it alone refuses the others."""
        if self.series_uid is None:
            return replace(asked, series=None, on_spacing="refuse")
        return replace(asked, series=self.series, axis=None)

    def part(self, series: str) -> Source:
        """The part of this series that the reader calls `series`, such as "1.2.3#2"."""
        number = series.partition("#")[2]
        name = f"{self.output.name}-part-{number}" if number else self.output.name
        suffix = "".join(self.output.suffixes[-2:]) if self.output_format != "dicom" else ""
        if number and suffix:
            name = f"{self.output.name.removesuffix(suffix)}-part-{number}{suffix}"
        return replace(self, series=series, output=self.output.with_name(name))

    def without_names(self, text: str) -> str:
        """A message without the names of the source's files and folders, which may name a patient."""
        names = {part for path in self.paths for part in (*path.parts, path.name[:48], path.name[:45]) if len(part) > 2}
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(name, "...")
        return text


@dataclass
class Found:
    """Result of a search.

    Attributes:
        sources: all volumes in a stable order, those with nothing to do and those that cannot be read included.
        unreadable: DICOM files that are damaged or may not be read, so that their series is not known.
    """

    sources: list[Source]
    unreadable: int = 0


def find_sources(folder: Path, out: Path, *, output_format: str | None = None) -> Found:
    """All volumes below a folder.

    Args:
        folder: searched with its subfolders and archives; links to folders are not followed.
        out: folder of the outputs, which is never searched.
        output_format: format of every output; None for that of each source.
    """
    from thinslice.io.dicom.files.header import quiet_pydicom

    search = _Search(folder, output_format)
    with quiet_pydicom():
        search.run(out)
    claimed: set[str] = set()
    series = [group.source(key, folder, output_format) for key, group in search.groups.items()]
    everything = sorted([*series, *search.files], key=lambda source: source.shown)
    return Found([_claimed(source, claimed) for source in everything], search.unreadable)


class _Search:
    """A walk through a folder: series so far by their key, and files of one volume."""

    def __init__(self, folder: Path, output_format: str | None) -> None:
        self.folder = folder
        self.output_format = output_format
        self.groups: dict[tuple[str, ...], _Group] = {}
        self.files: list[Source] = []
        self.unreadable = 0
        self.kept = 0

    def run(self, out: Path) -> None:
        """Visit every file below the folder, the folder of the outputs left out."""
        avoided = out.resolve()
        for top, folders, names in os.walk(self.folder, onerror=self._closed):
            folders[:] = sorted(name for name in folders if (Path(top) / name).resolve() != avoided)
            for name in sorted(names):
                path = Path(top, name)
                if suffix_of(name) in VOLUME_SUFFIXES:
                    self.files.append(_file_source(path, self.folder, self.output_format))
                else:
                    self._visit(path)

    def _visit(self, path: Path) -> None:
        """Add the DICOM objects of a file or an archive to their series."""
        from thinslice.io.dicom.files.input_files import SkippedFile, input_files
        from thinslice.io.dicom.files.multiframe import read_headers

        try:
            for file in input_files(path):
                headers = read_headers(file)
                if isinstance(headers, SkippedFile):
                    self.unreadable += headers.may_be_slice
                    continue
                for header in headers:
                    self._keep(_add(self.groups, path, header), header)
        except UnreadableError as error:
            self.files.append(_unread(path, self.folder, str(error)))
        except Exception:  # one hostile file must not end the batch
            self.unreadable += 1

    def _keep(self, group: _Group, header: SliceHeader) -> None:
        """Keep a header for the reading of its series, as long as they are not too many.

        Members of archives are not kept: what was unpacked for one would stay open.
        """
        if group.keeps and (self.kept >= MOST_HEADERS or header.file.content is not None):
            self.kept -= len(group.headers)
            group.forget()
        elif group.keeps:
            group.headers.append(header)
            self.kept += 1

    def _closed(self, error: OSError) -> None:
        place = Path(os.fsdecode(error.filename or self.folder))
        self.files.append(_unread(place, self.folder, "A folder may not be read by you; check its permissions."))


def _unread(path: Path, folder: Path, reason: str) -> Source:
    relative = path.relative_to(folder)
    place = neutral_place(relative).as_posix()
    return Source((path,), "unknown", PurePosixPath(), "dicom", relative.as_posix(), (), place=place, fault=reason)


class _Group:
    """Files of one series, in the order found."""

    def __init__(self, header: SliceHeader) -> None:
        from thinslice.io.dicom.files.object_kinds import kind_of
        from thinslice.io.dicom.files.values import integer
        from thinslice.io.dicom.series.facts import is_our_own

        self.paths: dict[Path, None] = {}
        self.headers: list[SliceHeader] = []
        self.keeps = True
        self.kind = kind_of(header.dataset)
        self.number = integer(header.dataset, "SeriesNumber")
        self.is_own = is_our_own(header.dataset)

    def source(self, key: tuple[str, ...], folder: Path, output_format: str | None) -> Source:
        _, study, label = key
        paths = tuple(self.paths)
        parents = {path.parent for path in paths}
        relative = parents.pop().relative_to(folder) if len(parents) == 1 else Path()
        number = "" if self.number is None else f"{self.number}-"
        leaf = f"series-{number}{digest_of(key)}"
        foreign = "" if self.kind.endswith("CT") else f"not a CT volume ({self.kind})"
        neutral = relative.parts and are_neutral(relative)
        top = PurePosixPath(relative if neutral else f"study-{digest_of((key[0], study))}")
        kind = output_format or "dicom"
        suffix = {"nifti": ".nii.gz", "dicom-enhanced": ".dcm"}.get(kind, "")
        shown = (relative / label if relative.parts else Path(label)).as_posix()
        return Source(
            paths=paths,
            kind=self.kind,
            output=top / f"{leaf}{suffix}",
            output_format=kind,
            shown=shown,
            stamps=_stamps(paths, folder),
            series_uid=label,
            series=label,
            left_out="made by thinslice" if self.is_own else foreign,
            headers=[] if self.is_own or foreign or not self.keeps else self.headers,
        )

    def forget(self) -> None:
        """Keep no headers of this series: it is read again when its turn comes."""
        self.keeps = False
        self.headers.clear()


def _add(groups: dict[tuple[str, ...], _Group], path: Path, header: SliceHeader) -> _Group:
    """Add a file to the series of its patient and study; some anonymizers give all patients one UID."""
    from thinslice.io.dicom.files.object_kinds import series_label
    from thinslice.io.dicom.files.values import text

    dataset = header.dataset
    key = (text(dataset, "PatientID"), text(dataset, "StudyInstanceUID"), series_label(dataset))
    group = groups.get(key)
    if group is None:
        group = groups[key] = _Group(header)
    elif group.kind != "CT":
        # A series of a localizer and slices counts as the slices.
        fresh = _Group(header)
        group.kind = fresh.kind if fresh.kind == "CT" else group.kind
    group.paths[path] = None
    return group


def _file_source(path: Path, folder: Path, output_format: str | None) -> Source:
    kind, own_format, suffix = VOLUME_SUFFIXES[suffix_of(path.name)]
    relative = path.relative_to(folder)
    place = neutral_place(relative)
    left_out = ""
    if output_format in ("dicom", "dicom-enhanced"):
        left_out = "no DICOM series can be derived from a file that is not DICOM"
    elif output_format is not None:
        own_format, suffix = output_format, ".nii.gz"
    return Source(
        paths=(path,),
        kind=kind,
        output=place.with_name(f"{place.name.removesuffix(suffix_of(path.name))}{suffix}"),
        output_format=own_format,
        shown=relative.as_posix(),
        stamps=_stamps((path,), folder),
        place=place.as_posix(),
        left_out=left_out,
    )


def _claimed(source: Source, claimed: set[str]) -> Source:
    """The source with an output that no other one has, on file systems that ignore case too."""
    if not source.is_candidate:
        return source
    output = source.output
    if output.as_posix().lower() in claimed:
        output = output.with_name(f"{digest_of((source.shown,))}-{output.name}")
        source = replace(source, output=output)
    claimed.add(output.as_posix().lower())
    return source


def _stamps(paths: tuple[Path, ...], folder: Path) -> tuple[tuple[str, int, int], ...]:
    stamps = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return tuple(stamps)
