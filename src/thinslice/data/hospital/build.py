"""Building of a data set of true pairs from a hospital's DICOM: paired, cut, de-identified, split by patient.

Each study is searched for a thick and a thin reconstruction of one scan (`matching`). Both are cut so that thick slice
k lies on thin slice factor * k, compared by their voxels, and written as NIfTI in HU with true geometry. Of the headers
only the geometry and words from short lists are kept (`deidentify`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from thinslice.data.hospital.deidentify import without_names
from thinslice.data.hospital.matching import RULES, Match, match_series
from thinslice.data.hospital.splits import assign_splits, check_fractions
from thinslice.data.hospital.state import BuildState, LinkTable, Rejection, Row, StudyRecord
from thinslice.data.hospital.studies import LEAST_SLICES, Study, candidates, find_studies
from thinslice.data.pairing import alignment, pair_by_position
from thinslice.errors import (
    GeometryError,
    InputError,
    OutputError,
    ResourceError,
    ThinsliceError,
    UnreadableError,
    UsageError,
)
from thinslice.intensity import WINDOW_MIN_HU
from thinslice.options import option
from thinslice.system.atomic import output_errors, sole_run
from thinslice.system.files import sha256_of
from thinslice.typing import Progress
from thinslice.volume import Provenance, Volume

PAPER_FRACTIONS = (0.4, 0.2, 0.4)
"""Train, val and test of RPLHR-CT: 100, 50 and 100 patients."""

Stage = Callable[[str], AbstractContextManager[Progress | None]]
"""Called with the name of a part of the work; a context manager of its progress callback, or of None."""


@dataclass(frozen=True)
class BuildOutcome:
    """Result of a build.

    Attributes:
        rows: rows of the manifest.
        rejections: rejected studies and series, with reasons.
        studies: number of studies.
        kept: number of studies that an earlier run has processed.
        failed: number of studies that failed because of a fault; another run tries them again.
        left_out: number of files that are no DICOM object or damaged, by reason.
        warnings: warnings, as sentences.
    """

    rows: tuple[Row, ...]
    rejections: tuple[Rejection, ...]
    studies: int
    kept: int
    failed: int
    left_out: dict[str, int]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairRules:
    """Rules for the selection of pairs.

    Attributes:
        factor: factor of the pairs; None for any.
        any_kernel: whether pairs may have different kernels.
        patient_by: identification of patients: "id" by PatientID, "study" takes each study as one patient.
        label: label of all cases, such as a pseudonym of the hospital.
    """

    factor: int | None = None
    any_kernel: bool = False
    patient_by: Literal["id", "study"] = "id"
    label: str = ""


def build_dataset(
    source: Path,
    out: Path,
    *,
    rules: PairRules | None = None,
    seed: int = 0,
    fractions: Sequence[float] = PAPER_FRACTIONS,
    salt: Path | None = None,
    link: Path | None = None,
    stage: Stage | None = None,
) -> BuildOutcome:
    """Build a paired data set from a folder of hospital DICOM; after an interruption the same call continues.

    Args:
        source: folder or zip with any number of studies; it is only read.
        out: folder of the data set: thick/, thin/, manifest.csv (for `open_dataset`) and rejected.csv.
        rules: rules for the selection of pairs.
        seed: seed of the split of patients.
        fractions: shares of train, val and test.
        salt: file with the secret key of pseudonyms, created when missing. With the same key a later call adds to the
            data set, and patients keep pseudonyms and splits. None for a key that is deleted at the end.
        link: table for the hospital only, from pseudonyms to UIDs; None for no table.
        stage: called at the start of each part of the work.

    Raises:
        UsageError: contradictory options, or `out` inside `source`.
        UnreadableError: there is no DICOM object in `source`; check the path.
        OutputExistsError: `out` holds other files, or a finished data set without its key; choose another folder.
        OutputBusyError: another run uses the folder; wait for it.
        OutputError, ResourceError: the data set cannot be written, or the disk is full.
    """
    rules = rules or PairRules()
    shares = check_fractions(tuple(fractions))
    begin = stage or (lambda _: nullcontext())
    _check_places(source, out, salt)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_run(out / "build"):
        table = LinkTable(link, out)
        with begin("headers") as progress:
            studies, left_out = find_studies(source, progress)
        options = {"factor": rules.factor, "any_kernel": rules.any_kernel, "by": rules.patient_by, "label": rules.label}
        state = BuildState(out, options, salt)
        records: list[StudyRecord] = []
        kept = 0
        with begin("studies") as progress:
            for number, study in enumerate(studies, start=1):
                record = state.done(_study_name(state, study), len(study.files))
                if record is None:
                    record = _process(study, rules, state)
                    table.add(record.links)
                    state.keep(record)
                else:
                    kept += 1
                records.append(record)
                if progress is not None:
                    progress(number, len(studies))
        records.extend(_absent(state, records))
        rows = state.finish(records, _splits(state, records, shares, seed))
    return BuildOutcome(
        rows=tuple(rows),
        rejections=tuple(rejection for record in records for rejection in record.rejections),
        studies=len(studies),
        kept=kept,
        failed=sum(record.failed for record in records),
        left_out=left_out,
        warnings=_warnings(studies, rules),
    )


class _CannotWriteError(Exception):
    """The disk is full or the output has vanished, which would stop the next study too."""

    def __init__(self, error: ThinsliceError) -> None:
        super().__init__(str(error))
        self.error = error


def _check_places(source: Path, out: Path, salt: Path | None) -> None:
    if not source.exists():
        raise UnreadableError(f"There is nothing at {source.name!r}; check the path.")
    inside, outside = out.resolve(), source.resolve()
    if inside == outside or outside in inside.parents:
        raise UsageError("The data set would lie in its source folder; choose another output.")
    if salt is not None and inside in salt.resolve().parents:
        raise UsageError(f"{salt.name!r} is a secret; keep it outside the data set.")


def _study_name(state: BuildState, study: Study) -> str:
    return state.names.study(f"{study.uid}\0{study.patient.strip().casefold()}")


def _absent(state: BuildState, records: Sequence[StudyRecord]) -> list[StudyRecord]:
    """Records of cases whose studies are not in this source; they stay in the data set."""
    there = {row["case"] for record in records for row in record.rows}
    seen = {record.study for record in records}
    rows = [row for case, row in state.before.items() if case not in there and case.rpartition("-")[2] not in seen]
    return [StudyRecord(row["case"].rpartition("-")[2], 0, (row,), ()) for row in rows]


def _splits(state: BuildState, records: Sequence[StudyRecord], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Splits by patient; the order depends on the content of the volumes, not on names or the key."""
    contents: dict[str, str] = {}
    for record in records:
        for row in record.rows:
            contents[row["patient"]] = min(row["thin_sha256"], contents.get(row["patient"], row["thin_sha256"]))
    fixed = {row["patient"]: row["split"] for row in state.before.values()}
    return assign_splits(contents, shares, seed=seed, fixed=fixed)


def _warnings(studies: Sequence[Study], rules: PairRules) -> tuple[str, ...]:
    if (
        rules.patient_by == "id"
        and len(studies) > 1
        and len({study.patient.strip().casefold() for study in studies}) == 1
    ):
        return (
            f"All {len(studies)} studies have one PatientID, so they are in one split; if they are of several patients "
            f"(anonymised before), use {option('patient_by', 'study')}.",
        )
    return ()


def _process(study: Study, rules: PairRules, state: BuildState) -> StudyRecord:
    """The record of one study; only a full disk or an unwritable output stops the build."""
    name = _study_name(state, study)
    patient = ""
    try:
        patient = _patient(study, rules, state)
        record = _pairs_of(study, name, patient, rules, state)
    except _CannotWriteError as stopped:
        raise stopped.error from None
    except (MemoryError, ResourceError):
        record = _failed(study, name, patient, "It does not fit in memory; use a machine with more.")
    except ThinsliceError as error:
        reason = without_names(str(error), (file.name for file in study.files))
        record = _failed(study, name, patient, reason, failed=not isinstance(error, UsageError))
    except Exception as error:  # a bad study does not stop the others; a parser's message may quote the patient
        record = _failed(study, name, patient, f"Internal error ({type(error).__name__}); please report it.")
    link = {"study": name, "patient": patient, "study_uid": study.uid}
    return replace(record, links=record.links or (link,))


def _failed(study: Study, name: str, patient: str, reason: str, *, failed: bool = True) -> StudyRecord:
    return StudyRecord(name, len(study.files), (), (Rejection(name, patient, "", "", reason),), failed)


def _patient(study: Study, rules: PairRules, state: BuildState) -> str:
    """The patient's pseudonym.

    Raises:
        UsageError: the files do not identify the patient.
    """
    identity = study.uid if rules.patient_by == "study" else study.patient
    if not identity.strip():
        raise UsageError(
            "StudyInstanceUID is empty, so the study cannot be distinguished from others."
            if rules.patient_by == "study"
            else f"PatientID is empty, so studies of one patient cannot be recognised; "
            f"{option('patient_by', 'study')} takes each study as one patient."
        )
    return state.names.patient(f"{rules.patient_by}\0{identity.strip()}")


def _pairs_of(study: Study, name: str, patient: str, rules: PairRules, state: BuildState) -> StudyRecord:
    """The record of a study: its pair is searched and written, other series are listed as rejected."""
    fit, unfit = candidates(study)
    rejections = [Rejection(name, patient, series.name, "", series.reason) for series in unfit if series.is_ct]
    matches, mismatches = match_series(fit, factor=rules.factor, any_kernel=rules.any_kernel)
    rejections += [Rejection(name, patient, str(two.thick), str(two.thin), two.reason) for two in mismatches]
    row: Row | None = None
    links: tuple[Row, ...] = ()
    failed = False
    read: dict[str, Volume] = {}
    for match in matches:
        if row is not None:
            reason = f"Another pair of the study was taken ({RULES})."
        else:
            try:
                row = _written(match, f"{patient}-{name}", patient, rules, state, read)
                links = (
                    {
                        "study": name,
                        "case": row["case"],
                        "patient": row["patient"],
                        "study_uid": study.uid,
                        "thick_series_uid": match.thick.stack.uid,
                        "thin_series_uid": match.thin.stack.uid,
                    },
                )
                continue
            except GeometryError as error:
                reason = str(error)
            except InputError as error:
                reason, failed = str(error), True
        reason = without_names(reason, (file.name for file in study.files))
        rejections.append(Rejection(name, patient, str(match.thick), str(match.thin), reason))
    if row is None and not matches and not mismatches:
        held = ", ".join(map(str, fit)) or "none that can be used"
        rejections.append(Rejection(name, patient, "", "", f"It has no thick and thin series of CT, but {held}."))
    return StudyRecord(
        study=name,
        files=len(study.files),
        rows=() if row is None else (row,),
        rejections=tuple(rejections),
        failed=failed and row is None,
        links=links,
    )


def _written(
    match: Match, case_id: str, patient: str, rules: PairRules, state: BuildState, read: dict[str, Volume]
) -> Row:
    """Read both series, cut, compare and write them; returns the row of the manifest.

    Args:
        match: the two series.
        case_id: name of the case.
        patient: pseudonym of the patient.
        rules: rules, for the label.
        state: state of the build.
        read: volumes read before, by series; volumes that this pair does not need are removed.

    Raises:
        GeometryError: the series are no pair by position or by content.
        InputError: a series cannot be read.
    """
    from thinslice.io.files import write

    needed = (match.thick.stack, match.thin.stack)
    for uid in [uid for uid in read if uid not in {stack.uid for stack in needed}]:
        del read[uid]
    thick, thin = (_hu(match_stack.uid, match, read) for match_stack in needed)
    thick, thin, factor = pair_by_position(thick, thin)
    if len(thick.hu) < LEAST_SLICES:
        raise GeometryError(f"They have {len(thick.hu)} thick slices in common; at least {LEAST_SLICES} are needed.")
    found = alignment(thick.hu, thin.hu, factor)
    if found is None:
        raise GeometryError("The slices are constant, so it cannot be checked that they are a pair.")
    if found.fault is not None:
        raise GeometryError(f"By their positions they are a pair, but {found.fault}.")
    row: Row = {
        "case": case_id,
        "patient": patient,
        "label": rules.label,
        "factor": str(factor),
        "kernel": "/".join(dict.fromkeys(side.family or "unknown" for side in (match.thick, match.thin))),
        "manufacturer": match.thin.maker,
        "correlation": f"{found.correlation:.4f}",
    }
    for side, volume in (("thick", thick), ("thin", thin)):
        place = f"{side}/{case_id}.nii.gz"
        # An empty provenance: only voxels and geometry of the source are written.
        try:
            write(Volume(volume.hu, volume.geometry, Provenance()), state.out / place, overwrite=True)
        except (OutputError, ResourceError) as error:
            raise _CannotWriteError(error) from error
        row[side] = place
        row[f"{side}_sha256"] = sha256_of(state.out / place)
        row[f"{side}_slices"] = str(volume.geometry.shape[0])
        row[f"{side}_spacing_mm"] = _decimal(volume.geometry.spacing_mm[0])
        row[f"{side}_thickness_mm"] = _decimal(volume.geometry.thickness_mm)
    row["height_spacing_mm"], row["width_spacing_mm"] = map(_decimal, thin.geometry.spacing_mm[1:])
    return row


def _hu(uid: str, match: Match, read: dict[str, Volume]) -> Volume:
    """HU of a series; the padding outside the reconstruction circle becomes air."""
    from thinslice.io.dicom.read import read_stack

    if uid not in read:
        stack = match.thick.stack if match.thick.stack.uid == uid else match.thin.stack
        volume = read_stack(stack)
        padding = volume.provenance.padding_hu
        if padding is not None:
            volume.hu[volume.hu == padding] = WINDOW_MIN_HU
        read[uid] = volume
    return read[uid]


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"
