"""One folder of an archive: its files, their series, and what the headers show; runs in a process of its own."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinslice.io.dicom.files.header import SliceHeader
    from thinslice.io.dicom.series.stacks import Stack

Stamp = tuple[int, int, int]
"""Size, time of change in nanoseconds, and inode of a file: equal ones mean that it was not changed. In a store of
objects a number below 0 stands for the inode: two objects are never two names of one file."""

HeadersOf = Callable[[str, "FoundFile"], Iterable["SliceHeader"]]
"""Headers of a file by its name; why there are none is noted in the row."""

MOST_AT_ONCE = 4096
"""Files of a folder that are read in one go; series that go beyond are judged when all files are known."""

GroupKey = tuple[str, str, str, str, str]
"""Digest of the patient, UID of the study and UID of the series, as stand-ins where they are no UIDs; then what stands
for study and series in the names of outputs, as `upscale --all` makes them."""


@dataclass(frozen=True)
class SeriesRow:
    """One series, or one part of it, as the catalogue has it; nothing in it names a patient.

    Attributes:
        uid, kind, slices, spacing_mm, thickness_mm, matrix, orientation, number, description, part, kernel, derived:
            as `thinslice.commands.inspect.SurveyedSeries` has them.
        factor: factor to reach 1 mm; None where the series cannot be upscaled.
        reasons: sentences why not.
        readable: whether its slices are one volume, whatever can be done with it.
        mended_by: settings of reading that take all these reasons away ("tilt", "spacing"), with commas; "" where
            nothing does.
        body_part, station, manufacturer, scanner: for rules.
        syntax: transfer syntax of its first slice.
    """

    uid: str
    kind: str
    slices: int
    spacing_mm: tuple[float | None, float | None, float | None]
    thickness_mm: float | None
    matrix: tuple[int | None, int | None]
    orientation: str
    number: int | None
    description: str
    part: str
    kernel: str
    derived: bool
    factor: int | None
    reasons: str
    readable: bool
    mended_by: str
    body_part: str
    station: str
    manufacturer: str
    scanner: str
    syntax: str


@dataclass
class FoundFile:
    """A file that is new or changed.

    Attributes:
        name: in its folder.
        stamp: of the file.
        reason: why it is no part of a series; "" where it is.
        groups: indices of its series in the result.
    """

    name: str
    stamp: Stamp
    reason: str = ""
    groups: tuple[int, ...] = ()


@dataclass
class FolderResult:
    """What a folder holds.

    Attributes:
        folder: path below the root of the archive, "" for the root itself.
        subfolders: names of the folders in it.
        digest: of all names and stamps; equal ones mean that nothing changed.
        unchanged: whether it is the one that is known.
        files: new and changed files.
        gone: names that are known and no longer there.
        groups: keys of series, to which `FoundFile.groups` points.
        rows: for each of `groups` what its files in this folder make together; None where it was not judged.
        later: names of files that are still to be read, in parts.
        total: files of the folder.
        reason: why the folder cannot be read; "" where it was.
    """

    folder: str
    subfolders: list[str] = field(default_factory=list)
    digest: bytes = b""
    unchanged: bool = False
    files: list[FoundFile] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    groups: list[GroupKey] = field(default_factory=list)
    rows: list[list[SeriesRow] | None] = field(default_factory=list)
    later: list[list[str]] = field(default_factory=list)
    total: int = 0
    reason: str = ""


def load() -> None:
    """Import what reading needs, so that processes that are forked afterwards have it."""
    import thinslice.commands.inspect
    import thinslice.io.dicom.series.report
    import thinslice.io.dicom.series.wanted
    import thinslice.planning  # noqa: F401


def list_folder(root: Path, folder: str, avoid: Iterable[str] = ()) -> tuple[FolderResult, dict[str, Stamp]]:
    """Names in a folder, without opening a file.

    Args:
        root: of the archive.
        folder: below it.
        avoid: real paths of folders that are not entered.

    Returns:
        The result so far, and the stamp of each file; links are followed to files, never to folders.
    """
    result, stamps = FolderResult(folder), dict[str, Stamp]()
    avoided = set(avoid)
    place = root / folder if folder else root
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if not avoided or os.path.realpath(entry.path) not in avoided:
                            result.subfolders.append(entry.name)
                        continue
                    status = entry.stat()
                except OSError:
                    result.files.append(FoundFile(entry.name, (0, 0, 0), "a link to nothing, or closed to you"))
                    continue
                if stat.S_ISREG(status.st_mode):
                    stamps[entry.name] = (status.st_size, status.st_mtime_ns, status.st_ino)
                elif stat.S_ISDIR(status.st_mode):
                    result.files.append(FoundFile(entry.name, (0, 0, 0), "a link to a folder, which is not followed"))
                else:
                    result.files.append(FoundFile(entry.name, (0, 0, 0), "no ordinary file"))
    except OSError as error:
        result.reason = "may not be read by you" if isinstance(error, PermissionError) else "cannot be read"
    result.subfolders.sort()
    result.total = len(stamps) + len(result.files)
    result.digest = digest_of_listing(result, stamps)
    return result, stamps


def digest_of_listing(result: FolderResult, stamps: Mapping[str, Stamp]) -> bytes:
    """Digest of a folder's names and stamps."""
    known = [f"{name}\0{size} {time} {inode}" for name, (size, time, inode) in stamps.items()]
    others = [f"{file.name}\0{file.reason}" for file in result.files]
    text = "\n".join(sorted([*known, *others, result.reason]))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:16]


def read_folder(
    root: Path,
    folder: str,
    salt: bytes,
    *,
    digest: bytes | None,
    known: Mapping[str, Stamp] | None,
    avoid: Iterable[str],
) -> FolderResult:
    """List a folder, and read the headers of its new and changed files.

    Args:
        root: of the archive.
        folder: below it.
        salt: of the patients' digests.
        digest: of the folder when it was last read; None if never.
        known: stamps of its files then; None where they must be asked for, which is needed once the digest differs.
        avoid: as for `list_folder`.

    Returns:
        The result. Where `known` is needed and None, it holds no files, and its digest differs from `digest`.
    """
    result, stamps = list_folder(root, folder, avoid)
    changed = changed_files(result, stamps, digest=digest, known=known)
    if changed:
        add_files(result, salt, changed, stamps, judge=not known, headers_of=_headers_in(root, folder))
    return result


def changed_files(
    result: FolderResult, stamps: Mapping[str, Stamp], *, digest: bytes | None, known: Mapping[str, Stamp] | None
) -> list[str]:
    """Names of the files that must be read now; whether there are none, or too many, is noted in the result.

    Args:
        result: of listing the folder.
        stamps: of its files.
        digest, known: as for `read_folder`.
    """
    if digest == result.digest:
        result.unchanged, result.files = True, []
        return []
    if digest is not None and known is None:
        return []
    earlier = known or {}
    changed = [name for name in sorted(stamps) if earlier.get(name) != stamps[name]]
    there = {*stamps, *(file.name for file in result.files)}
    result.gone = [name for name in earlier if name not in there]
    if len(changed) > MOST_AT_ONCE:
        result.later = [changed[k : k + MOST_AT_ONCE] for k in range(0, len(changed), MOST_AT_ONCE)]
        return []
    return changed


def read_files(root: Path, folder: str, salt: bytes, names: list[str]) -> FolderResult:
    """Read the headers of some files of a large folder; their series are judged later."""
    result, stamps = list_folder(root, folder)
    result.files = []
    there = [name for name in names if name in stamps]
    add_files(result, salt, there, stamps, judge=False, headers_of=_headers_in(root, folder))
    return result


def judge(root: Path, label: str, paths: Iterable[str]) -> list[SeriesRow]:
    """What the files of one series make together, by the rules of `thinslice inspect`.

    Args:
        root: of the archive.
        label: UID of the series.
        paths: of its files below the root.
    """
    from thinslice.io.dicom.files.header import quiet_pydicom
    from thinslice.io.dicom.files.input_files import SkippedFile, input_files
    from thinslice.io.dicom.files.object_kinds import series_label
    from thinslice.io.dicom.series.wanted import read_wanted

    headers = []
    with quiet_pydicom():
        for file in input_files([root / path for path in paths if (root / path).is_file()]):
            found = read_wanted(file)
            if not isinstance(found, SkippedFile):
                headers += [header for header in found if series_label(header.dataset) == label]
        return rows_of(headers)


def add_files(
    result: FolderResult,
    salt: bytes,
    names: list[str],
    stamps: Mapping[str, Stamp],
    *,
    judge: bool,
    headers_of: HeadersOf,
) -> None:
    """Add files to a result, and their series where `judge` is set.

    Args:
        result: of listing the folder.
        salt: of the patients' digests.
        names: of the files.
        stamps: of all files.
        judge: whether these are all files of the folder.
        headers_of: reads one.
    """
    from thinslice.io.dicom.files.header import quiet_pydicom

    indices: dict[GroupKey, int] = {}
    gathered: list[list[SliceHeader]] = []
    seen: dict[tuple[int, int], str] = {}
    keys: dict[tuple[str, str, str], GroupKey] = {}
    with quiet_pydicom():
        for name in names:
            size, _, inode = stamps[name]
            file = FoundFile(name, stamps[name])
            result.files.append(file)
            if inode > 0 and (inode, size) in seen:
                file.reason = "another name of a file that is listed (a link)"
                continue
            seen[inode, size] = name
            touched: dict[int, None] = {}
            for header in headers_of(name, file):
                named = names_of(header)
                key = keys.get(named)
                if key is None:
                    key = keys[named] = group_key(named, salt)
                index = indices.setdefault(key, len(indices))
                if index == len(gathered):
                    gathered.append([])
                if judge:
                    gathered[index].append(header)
                touched[index] = None
            file.groups = tuple(touched)
            file.reason = "" if touched else file.reason or "an index (DICOMDIR), which is not needed"
        result.groups = list(indices)
        result.rows = [rows_of(headers) if judge else None for headers in gathered]


def _headers_in(root: Path, folder: str) -> HeadersOf:
    place = root / folder if folder else root
    return lambda name, file: headers_at(place / name, file)


def headers_at(path: Path, file: FoundFile) -> Iterator[SliceHeader]:
    """Headers of a file or of the members of an archive; why there are none is noted in `file`."""
    from thinslice.errors import UnreadableError
    from thinslice.io.dicom.files.archives import HEAD_BYTES, archive_kind
    from thinslice.io.dicom.files.input_files import InputFile, SkippedFile, input_files, printable
    from thinslice.io.dicom.series.wanted import read_wanted

    reasons: dict[str, None] = {}
    try:
        with path.open("rb", buffering=0) as stream:
            is_plain = archive_kind(stream.read(HEAD_BYTES)) is None
        for member in (InputFile(path, printable(path.name)),) if is_plain else input_files(path):
            found = read_wanted(member)
            if isinstance(found, SkippedFile):
                reasons[found.reason] = None
                continue
            yield from found
    except (UnreadableError, OSError):
        reasons["cannot be opened, or a damaged archive"] = None
    except Exception:  # one hostile file must not end a scan of millions
        reasons["damaged"] = None
    file.reason = "; ".join(list(reasons)[:3])


def names_of(header: SliceHeader) -> tuple[str, str, str]:
    """Patient, study and series of a slice, as its header has them."""
    from thinslice.io.dicom.files.object_kinds import series_label
    from thinslice.io.dicom.files.values import text

    dataset = header.dataset
    return text(dataset, "PatientID"), text(dataset, "StudyInstanceUID"), series_label(dataset)


def group_key(named: tuple[str, str, str], salt: bytes) -> GroupKey:
    """The series of a slice, as `upscale --all` groups them: by patient, study and series.

    Args:
        named: as `names_of` gives them.
        salt: of the patients' digests.
    """
    from thinslice.commands.neutral_names import digest_of
    from thinslice.io.dicom.files.object_kinds import UID_PATTERN

    patient, study, label = named
    digest = hashlib.blake2b((patient or f"study {study}").encode("utf-8", "surrogateescape"), key=salt, digest_size=8)
    names = digest_of((patient, study)), digest_of((patient, study, label))
    if not (len(study) <= 64 and UID_PATTERN.fullmatch(study)):
        study = "no-uid-" + hashlib.sha256(study.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return digest.hexdigest(), study, label, *names


def rows_of(headers: list[SliceHeader]) -> list[SeriesRow]:
    """The series that slices make, by the rules of `thinslice inspect`."""
    from thinslice.io.dicom.series.stacks import stacks_of

    return [_row(found) for found in stacks_of(headers, [])]


def _row(found: Stack) -> SeriesRow:
    from thinslice.commands.inspect import verdict_on
    from thinslice.io.dicom.files.input_files import printable
    from thinslice.io.dicom.files.values import text
    from thinslice.io.dicom.series.facts import Identity
    from thinslice.io.dicom.series.report import report_of

    report = report_of(found, 1, [])
    factor, reasons, _ = verdict_on(report)
    first = found.slices[0].header
    names = {piece.header.file.name for piece in found.slices}
    spacing = report.spacing_mm or (None, None, None)
    identity = Identity.of(first.dataset)
    shown = {
        keyword: printable(identity.without(text(first.dataset, keyword)))
        for keyword in ("BodyPartExamined", "Manufacturer", "ManufacturerModelName")
    }
    return SeriesRow(
        uid=report.series_uid,
        kind=report.kind,
        slices=report.slices,
        spacing_mm=spacing,
        thickness_mm=report.thickness_mm,
        matrix=report.matrix or (None, None),
        orientation=report.orientation or "",
        number=report.series_number,
        description=report.description,
        part=report.part,
        kernel=report.kernel,
        derived=report.derived,
        factor=factor,
        reasons=_without(" ".join(reasons), names),
        readable=report.geometry is not None and not report.reasons,
        mended_by=_mended_by(found.faults),
        body_part=shown["BodyPartExamined"],
        station=printable(text(first.dataset, "StationName"), 32),
        manufacturer=shown["Manufacturer"],
        scanner=shown["ManufacturerModelName"],
        syntax=str(first.transfer_syntax),
    )


def _mended_by(faults: list[str]) -> str:
    from thinslice.io.dicom.series.plane import Fault

    settings = {fault.mended_by if isinstance(fault, Fault) else "" for fault in faults}
    return "" if "" in settings else ",".join(sorted(settings))


def _without(sentence: str, names: Iterable[str]) -> str:
    """A sentence without names of files, which may be a patient's."""
    for name in sorted(names, key=len, reverse=True) if "'" in sentence else ():
        if len(name) > 2:
            sentence = sentence.replace(name, "...")
    return sentence
