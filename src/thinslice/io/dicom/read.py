"""DICOM CT in: the series of a folder (`scan`), and one series as a volume of exact HU (`read_dicom`).

Reading uses pydicom and numpy alone. Files are recognised by their content; a file that is damaged, hostile or of
another kind is skipped and listed, and a series whose reading would need a guess is refused in a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError, InputError, ResourceError, UnreadableError
from thinslice.geometry import Geometry
from thinslice.intensity import WINDOW_MIN_HU
from thinslice.io.dicom.files.bounds import HeaderError
from thinslice.io.dicom.files.header import SliceHeader, quiet_pydicom
from thinslice.io.dicom.files.input_files import UNPACK_ERRORS, SkippedFile, input_files, printable
from thinslice.io.dicom.files.multiframe import read_headers
from thinslice.io.dicom.files.pixel_format import PixelError, padding_hu
from thinslice.io.dicom.files.pixels import HuStack, read_raw, require_decoder
from thinslice.io.dicom.files.values import integer, text
from thinslice.io.dicom.series.choice import choose
from thinslice.io.dicom.series.clues import PHASE_KEYWORDS
from thinslice.io.dicom.series.facts import description_of, is_our_own, shown_text
from thinslice.io.dicom.series.plane import Fault
from thinslice.io.dicom.series.report import SeriesReport, listed, refusal, report_of
from thinslice.io.dicom.series.slices import Slice
from thinslice.io.dicom.series.stacks import Stack, lost_inside, restack, stacks_of
from thinslice.io.padding import padding_below_window
from thinslice.io.settings import ReadSettings
from thinslice.plausibility import Plausibility, examine
from thinslice.system.isolation import run_isolated
from thinslice.volume import Provenance, Volume

CT_MAX_HU = 3071.0
"""Largest HU of ordinary 12-bit CT; padding above it, or below the networks' window, differs from all tissue."""

SECONDS_A_SLICE = 10.0
"""Longest time that one compressed slice may take to decode; usual ones take 0.01 to 0.1 s."""

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def scan(paths: Paths, *, sampled_slices: int = 0) -> list[SeriesReport]:
    """List every series of a folder, of files or of a zip, reading headers only, or a few slices too.

    Args:
        paths: a folder (searched recursively), a file, a zip, or several of these.
        sampled_slices: slices of each readable CT series whose values are examined; 0 for headers alone.

    Returns:
        One report for each series (several where a series cannot be one volume), in the order found.

    Raises:
        UnreadableError: there is no DICOM object at all; check the path.
    """
    return DicomInput.of(paths).reports(sampled_slices=sampled_slices)


class DicomInput:
    """The headers of an input, read once: a report on its series, and then one of them as a volume.

    Args:
        headers: of its slices, at least one.
        skipped: files that were left out.
    """

    def __init__(self, headers: Iterable[SliceHeader], skipped: Sequence[SkippedFile] = ()) -> None:
        self._skipped = list(skipped)
        with quiet_pydicom():
            # Ours last: the numbers of the sources stay when an output is written among them.
            self._stacks = sorted(
                stacks_of(headers, self._skipped), key=lambda found: is_our_own(found.slices[0].header.dataset)
            )

    @classmethod
    def of(cls, paths: Paths) -> DicomInput:
        """The input at these paths.

        Raises:
            UnreadableError: there is no DICOM object at all; check the path.
        """
        headers, skipped, count = [], [], 0
        with quiet_pydicom():
            for file in input_files(paths):
                count += 1
                parsed = read_headers(file)
                if isinstance(parsed, SkippedFile):
                    skipped.append(parsed)
                else:
                    headers.extend(parsed)
        if not headers:
            reasons = f": {listed(skipped)}" if skipped else ""
            raise UnreadableError(f"No DICOM image among {count} file(s){reasons}; name the folder of a CT series.")
        return cls(headers, skipped)

    def reports(self, *, sampled_slices: int = 0) -> list[SeriesReport]:
        """One report for each series, as `scan`."""
        with quiet_pydicom():
            reports = [report_of(found, row, self._skipped) for row, found in enumerate(self._stacks, start=1)]
            if not sampled_slices:
                return reports
            return [
                replace(report, values=_examined(found, sampled_slices))
                if found.kind == "CT" and report.geometry is not None
                else report
                for found, report in zip(self._stacks, reports, strict=True)
            ]

    def read(self, series: str | None, settings: ReadSettings) -> Volume:
        """One series as a volume, as `read_dicom`."""
        with quiet_pydicom():
            for each in self._stacks:
                _mend(each, settings)
            found, warnings = choose(self._stacks, series)
            if found.faults:
                raise refusal(found, self._skipped)
            return _load(found, self._skipped, warnings)


def read_dicom(
    paths: Paths, *, series: str | None = None, series_uid: str | None = None, settings: ReadSettings | None = None
) -> Volume:
    """Read one CT series as exact HU.

    Args:
        paths: a folder (searched recursively), a file, a zip, or several of these.
        series: which series, as `thinslice.io.dicom.series.choice.choose` takes it; may be left out when only one CT
            series can be meant.
        series_uid: another name of `series`.
        settings: treatment of a gantry tilt and of uneven spacing; both are refused unless set.

    Returns:
        The volume; depth ascends along the normal (row x column cosines). `provenance.headers` holds one dataset per
        slice without pixels, in depth order.

    Raises:
        UnreadableError: no DICOM object, or too many damaged files; check the path, or get the files again.
        SeriesChoiceError: several series; name one with `--series-uid`.
        GeometryError: gantry tilt, missing slices, uneven spacing or thickness, missing positions; the message gives
            the repair.
        MissingExtraError: the encoding of the pixels needs a package; install the one that the message names.
        InputError: not HU of a CT: MR, PET, colour, localizer, multi-frame; give the original CT series.
        ResourceError: the volume does not fit in memory; close other programs, or use a machine with more.
    """
    return DicomInput.of(paths).read(series_uid if series is None else series, settings or ReadSettings())


def read_stack(found: Stack) -> Volume:
    """Read the pixels of a stack whose headers were read before (`thinslice.io.dicom.series.stacks.stacks_of`).

    Args:
        found: of kind "CT"; changed: files that cannot be decoded are added to its `skipped`.

    Raises:
        As `read_dicom`.
    """
    with quiet_pydicom():
        if found.faults:
            raise refusal(found, [])
        return _load(found, [], [])


def _examined(found: Stack, slices: int) -> Plausibility | None:
    """What the values of a series look like, from slices at even distances; None where these cannot be decoded.

    A few slices may lack what the others hold, so a series that seems to be no HU is read whole before that counts.
    """
    step = max(1, len(found.positions) // slices)
    sampled = found.positions[step // 2 :: step][:slices]
    form = sampled[0][0].form
    if form is None:
        return None
    voxels = HuStack(len(sampled), form.rows, form.columns)
    decoded = decoded_slices([piece for copies in sampled for piece in copies])
    try:
        kept = [_store_copies(k, copies, decoded, voxels) for k, copies in enumerate(sampled)]
        if not all(kept):
            return None
        seen = examine(voxels.hu, padding=_padding([copies[0] for copies in kept], voxels.hu, []))
        if seen.is_refused or seen.kind == "empty":
            volume = _load(found, [], [])
            seen = examine(volume.hu, padding=volume.provenance.padding_hu)
    except (InputError, ResourceError, PixelError):
        return None
    return seen


def _mend(found: Stack, settings: ReadSettings) -> None:
    """Take the faults that the settings have resampled out of a stack's list."""
    asked = {name for name, on in (("tilt", settings.on_tilt), ("spacing", settings.on_spacing)) if on == "resample"}
    found.faults, mended = _unmended(found.faults, frozenset(asked))
    found.mended |= mended


def _unmended(faults: Iterable[str], mended: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The faults that stay, and what mends the others."""
    gone = {fault: fault.mended_by for fault in faults if isinstance(fault, Fault) and fault.mended_by in mended}
    return [fault for fault in faults if fault not in gone], frozenset(gone.values())


def _load(found: Stack, skipped: list[SkippedFile], warnings: list[str]) -> Volume:
    stacking = found.stacking
    form = found.positions[0][0].form if found.positions else None
    if stacking is None or form is None or (stacking.geometry is None and not found.mended):
        raise GeometryError("The slices do not make a volume; give the original CT series.")
    for syntax in sorted({copies[0].header.transfer_syntax for copies in found.positions}):
        try:
            require_decoder(syntax)
        except PixelError as error:
            raise UnreadableError(
                f"The series cannot be read: {error}; export it as Explicit VR Little Endian."
            ) from error
    try:
        voxels = HuStack(len(found.positions), form.rows, form.columns)
    except MemoryError as error:
        gib = len(found.positions) * form.rows * form.columns * 2 / 2**30
        raise ResourceError(
            f"Reading this series takes {gib:.1f} GiB of memory, more than is free; close other programs, or use a "
            "machine with more memory."
        ) from error
    kept: list[list[Slice]] = []
    lost: list[int] = []
    doubled = 0
    decoded = decoded_slices([piece for copies in found.positions for piece in copies])
    for k, copies in enumerate(found.positions):
        whole = _store_copies(k, copies, decoded, voxels)
        if whole:
            kept.append(whole)
            doubled += len(whole) > 1
        else:
            lost.append(k)
            copies[0] = replace(copies[0], problem="its pixel data are damaged")
            found.skipped.append(SkippedFile(copies[0].header.file.name, copies[0].problem))
    hu, geometry, odd = voxels.hu, stacking.geometry, list(found.warnings)
    del voxels
    if lost:
        hu, geometry, odd = _without(found, skipped, kept, lost, hu)
    if doubled:
        odd = [sentence for sentence in odd if "occur more than once" not in sentence]
        odd.append(f"{doubled} position(s) held identical slices more than once; one of each was kept.")
    files = [*found.skipped, *skipped]
    if files:
        odd.append(f"{len(files)} file(s) were skipped: {listed(files)}.")
    slices = [copies[0] for copies in kept]
    padding = _padding(slices, hu, odd)
    notes: tuple[str, ...] = ()
    if geometry is None:
        from thinslice.io.dicom.series.regrid import (
            regular,  # here, as it imports scipy, which reading itself does not need
        )

        outside_hu = WINDOW_MIN_HU if padding is None else padding
        planes = [piece.plane for piece in slices if piece.plane is not None]
        made = regular(hu, planes, stacking.in_plane_mm, found.mended, outside_hu=outside_hu)
        hu, geometry, notes = made.hu, made.geometry, made.notes
        slices = [slices[k] for k in made.nearest]
    provenance = _provenance(found, slices, padding, [*warnings, *odd, *notes], len(files))
    provenance.details["resampled"] = list(notes)
    return Volume(hu, geometry, provenance)


def decoded_slices(pieces: Sequence[Slice]) -> Iterator[npt.NDArray[Any] | None]:
    """Raw pixels of slices in order, (height, width) integers; None for a slice that cannot be decoded.

    Compressed pixels are decoded in a child process, since a decoder written in C may end its process on damaged
    ones. An array is valid until the next one is asked for.
    """
    compressed = [piece for piece in pieces if piece.form and piece.header.transfer_syntax.is_encapsulated]
    apart = _decoded_apart(compressed)
    for piece in pieces:
        is_compressed = piece.form is not None and piece.header.transfer_syntax.is_encapsulated
        yield next(apart) if is_compressed else _decoded_here(piece)


def _decoded_here(piece: Slice) -> npt.NDArray[Any] | None:
    if piece.form is None:
        return None
    try:
        return read_raw(piece.header, piece.form)
    except (PixelError, HeaderError, *UNPACK_ERRORS):
        return None


def _decoded_apart(pieces: Sequence[Slice]) -> Iterator[npt.NDArray[Any] | None]:
    def decode(index: int, buffer: memoryview) -> bytes:
        raw = _decoded_here(pieces[index])
        if raw is None:
            return b""
        raw = np.ascontiguousarray(raw)
        np.frombuffer(buffer, raw.dtype, raw.size).reshape(raw.shape)[:] = raw
        return raw.dtype.str.encode()

    slot_bytes = max((piece.form.raw_bytes for piece in pieces if piece.form), default=0)
    for result in run_isolated(len(pieces), decode, slot_bytes=-(-slot_bytes // 8) * 8, seconds_each=SECONDS_A_SLICE):
        form = pieces[result.index].form
        if result.outcome != "done" or not result.payload or form is None:
            yield None
            continue
        values = np.frombuffer(result.buffer, result.payload.decode(), form.rows * form.columns)
        yield values.reshape(form.rows, form.columns)


def _store_copies(
    k: int, copies: list[Slice], decoded: Iterator[npt.NDArray[Any] | None], voxels: HuStack
) -> list[Slice]:
    """The copies of slice k that decode; stores the first, and checks that the others have the same pixels."""
    whole: list[Slice] = []
    stored: npt.NDArray[Any] | None = None
    for piece in copies:
        raw = next(decoded)
        if piece.form is None or raw is None:
            continue
        if stored is None:
            voxels.put(k, raw, piece.form)
            stored = raw.astype(np.float64) * piece.form.slope + piece.form.intercept if len(copies) > 1 else raw
        elif not np.array_equal(stored, raw.astype(np.float64) * piece.form.slope + piece.form.intercept):
            raise GeometryError(_conflict(whole[0], piece))
        whole.append(piece)
    return whole


def _conflict(one: Slice, other: Slice) -> str:
    a, b = one.header.dataset, other.header.dataset
    apart = [keyword for keyword in PHASE_KEYWORDS if text(a, keyword) != text(b, keyword)]
    clue = f" (they differ in {', '.join(apart)})" if apart else ""
    where = f"instances {one.instance} and {other.instance}" if one.instance != other.instance else "two slices"
    return (
        f"Different pixels lie at one position, in {where}{clue}: likely two phases or reconstructions in one "
        "series; give one of them in a folder of its own."
    )


def _without(
    found: Stack, skipped: list[SkippedFile], kept: list[list[Slice]], lost: list[int], hu: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], Geometry | None, list[str]]:
    """The volume without slices that turned out damaged, which is possible only at its ends."""
    if not kept:
        raise UnreadableError(f"No slice of the series can be decoded: {listed(found.skipped)}; get the files again.")
    fault = lost_inside(found.positions, lost)
    if fault:
        raise GeometryError(fault)
    start = next(k for k in range(len(found.positions)) if k not in set(lost))
    stacking = restack(found, kept, sum(file.may_be_slice for file in skipped))
    faults, _ = _unmended(stacking.faults, found.mended)
    if faults:
        raise GeometryError(" ".join(faults))
    old = set(found.stacking.warnings) if found.stacking else set()
    odd = [*stacking.warnings, *(sentence for sentence in found.warnings if sentence not in old)]
    odd.append(f"{len(lost)} slice(s) at the ends of the series cannot be decoded and are left out.")
    return hu[start : start + len(kept)], stacking.geometry, odd


def _padding(slices: list[Slice], hu: npt.NDArray[Any], warnings: list[str]) -> float | None:
    """HU that marks pixels outside the reconstruction: as declared, or a frequent value below any HU."""
    declared = {padding_hu(piece.header.dataset, piece.form) for piece in slices if piece.form is not None}
    padding = declared.pop() if len(declared) == 1 else None
    if declared:
        warnings.append("The value that marks padding differs between slices, so it is not restored in the output.")
        return None
    if padding is not None and WINDOW_MIN_HU <= padding <= CT_MAX_HU:
        padding = None
    if padding is not None and padding > CT_MAX_HU and not any((plane == padding).any() for plane in hu):
        padding = None  # declared and never used; it would only widen the range of values that the output must store
    lowest = float(hu.min())
    if lowest >= WINDOW_MIN_HU or padding == lowest:
        return padding
    # Rewritten files often declare one value and hold another.
    if padding_below_window(hu) is None:
        return padding
    declaration = "is not declared" if padding is None else f"is declared as {padding:g} HU, which does not occur"
    warnings.append(f"The padding value {declaration}; {lowest:g} HU is taken as padding.")
    return lowest


def _provenance(
    found: Stack, slices: list[Slice], padding: float | None, warnings: list[str], skipped: int
) -> Provenance:
    first = slices[0].header.dataset
    syntaxes = sorted({piece.header.transfer_syntax.name for piece in slices})
    return Provenance(
        format="dicom",
        file_axes=(2, 1, 0),
        padding_hu=padding,
        warnings=tuple(warnings),
        headers=tuple(piece.header.dataset for piece in slices),
        details={
            "series_uid": found.uid,
            # "UID#2", or the UID alone where the other parts of the series were left out.
            "part": int(found.uid.partition("#")[2] or 1),
            "slices": len(slices),
            "skipped": skipped,
            "modality": "CT",
            "manufacturer": shown_text(first, "Manufacturer"),
            "series_number": integer(first, "SeriesNumber"),
            "description": description_of(first),
            "kernel": shown_text(first, "ConvolutionKernel"),
            "transfer_syntaxes": [printable(name, 100) for name in syntaxes],
            "lossy": text(first, "LossyImageCompression") == "01",
        },
    )
