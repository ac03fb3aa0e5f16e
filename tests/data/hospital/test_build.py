"""From hospital DICOM to a paired, de-identified, split data set."""

from __future__ import annotations

import csv
import gzip
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinslice
from support.dicom_factory import assert_no_canary, write_series
from support.hospital import anatomy, averages, write_scan
from thinslice.data.hospital.build import BuildOutcome, PairRules, build_dataset
from thinslice.data.manifest import open_dataset, read_pair
from thinslice.errors import OutputBusyError, OutputExistsError, ResourceError, UnreadableError, UsageError
from thinslice.system.atomic import sole_run


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file by its path below the folder, NIfTI unpacked as well."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield str(path.relative_to(folder)), data
            if path.suffix == ".gz":
                yield f"{path.name} (unpacked)", gzip.decompress(data)


def reasons(outcome: BuildOutcome) -> str:
    return " | ".join(rejection.reason for rejection in outcome.rejections)


def test_the_real_pair_comes_out_aligned_and_without_a_name(shared: Path, tmp_path: Path) -> None:
    pair = {
        name: thinslice.read(shared / "ct" / "pair" / f"phantom_{name}.nii.gz") for name in ("thick_5mm", "thin_1mm")
    }
    thick, thin = pair["thick_5mm"], pair["thin_1mm"]
    uids = []
    for number, (name, volume) in enumerate(pair.items()):
        written = write_series(
            tmp_path / "archive" / f"Kanarienvogel {name}",
            shape=volume.geometry.shape,
            spacing_mm=volume.geometry.spacing_mm,
            origin_mm=volume.geometry.origin_mm,
            hu=volume.hu,
            seed=number,
            study_uid="1.2.3.4711",
            prefix="Kanarienvogel_",
        )
        uids += [written.uid, written.study_uid]
    outcome = build_dataset(tmp_path / "archive", tmp_path / "set")
    assert len(outcome.rows) == 1 and outcome.rejections == () and outcome.failed == 0

    dataset = open_dataset(tmp_path / "set")
    case = dataset.cases[0]
    read = read_pair(case)
    assert (case.split, read.factor, len(read.thick.hu), len(read.thin.hu)) == ("train", 5, 12, 56)
    np.testing.assert_array_equal(read.thick.hu, thick.hu)
    # Thick k lies on thin 5k + 2 of the scanner's series: its first two slices and its last two are cut.
    np.testing.assert_array_equal(read.thin.hu, thin.hu[2:58])
    for volume, source in ((read.thick, thick.geometry), (read.thin, thin.geometry)):
        assert volume.geometry.spacing_mm == pytest.approx(source.spacing_mm, abs=1e-6)
    assert read.thick.geometry.origin_mm == pytest.approx(thick.geometry.origin_mm, abs=1e-3)
    assert read.thin.geometry.origin_mm == pytest.approx(thick.geometry.origin_mm, abs=1e-3)
    error = {}
    for shift in range(-2, 3):
        means = np.stack([read.thin.hu[5 * k + shift - 2 : 5 * k + shift + 3].mean(0) for k in range(1, 11)])
        seen = np.abs(read.thick.hu[1:11]) < 200
        error[shift] = float(np.sqrt(np.mean((means - read.thick.hu[1:11])[seen] ** 2)))
    assert min(error, key=error.__getitem__) == 0 and error[0] < 35 < min(error[-1], error[1])

    for name, data in contents(tmp_path / "set"):
        assert_no_canary(name)
        assert_no_canary(data.decode("latin-1"))
        for uid in uids:
            assert uid.encode() not in data
        assert b"471147" not in data and b"1999" not in data[:4000]
    assert {name.split("/")[0] for name, _ in contents(tmp_path / "set") if "unpacked" not in name} == {
        "manifest.csv",
        "rejected.csv",
        "thick",
        "thin",
    }


def test_patients_are_split_and_never_torn_apart(tmp_path: Path) -> None:
    for seed in range(6):
        # Studies 4 and 5 are of the patients of 0 and 1, written another way.
        patient = f"CANARY-ID-{seed % 4}"
        write_scan(tmp_path / "in" / str(seed), seed, patient=f" {patient.lower()} " if seed > 3 else patient)
    outcome = build_dataset(tmp_path / "in", tmp_path / "out", fractions=(0.5, 0.25, 0.25))
    cases = open_dataset(tmp_path / "out").cases
    by_patient: dict[str, set[str]] = {}
    for case in cases:
        by_patient.setdefault(case.patient, set()).add(case.split)
    assert len(cases) == 6 and len(by_patient) == 4
    assert all(len(splits) == 1 for splits in by_patient.values())
    counts = [sum(split == {name} for split in by_patient.values()) for name in ("train", "val", "test")]
    assert counts == [2, 1, 1] and outcome.studies == 6

    again = build_dataset(tmp_path / "in", tmp_path / "again", fractions=(0.5, 0.25, 0.25))
    of = lambda built: {row["thin_sha256"]: row["split"] for row in built.rows}  # noqa: E731
    assert of(again) == of(outcome)
    # The key is random, so the names are.
    assert not {row["patient"] for row in again.rows} & set(by_patient)


def test_the_first_thin_slices_are_cut_and_ends_without_a_partner_dropped(tmp_path: Path) -> None:
    source = anatomy(5, depth=43)
    # Thick slices reach past the thin ones at both ends.
    thick = averages(np.pad(source, ((5, 5), (0, 0), (0, 0)), mode="edge"), 5, 2)
    write_scan(tmp_path / "in", 1, hu=source, thick={"hu": thick, "origin_mm": (-10.0, -20.0, 97.0)})
    build_dataset(tmp_path / "in", tmp_path / "out")
    pair = read_pair(open_dataset(tmp_path / "out").cases[0])
    np.testing.assert_array_equal(pair.thin.hu, source[2:43])
    np.testing.assert_array_equal(pair.thick.hu, thick[1:10])


@pytest.mark.parametrize("orientation", ["feet_first", "sagittal", "oblique"])
def test_positions_decide_in_any_orientation(tmp_path: Path, orientation: str) -> None:
    source = anatomy(2)
    first = write_series(tmp_path / "probe", shape=source.shape, spacing_mm=(1.0, 0.7, 0.7), orientation=orientation)
    begin = tuple(first.positions_mm[2])
    shutil.rmtree(tmp_path / "probe")
    options = {"orientation": orientation, "file_order": "shuffled"}
    write_scan(
        tmp_path / "in",
        2,
        hu=source,
        thin={**options, "origin_mm": tuple(first.positions_mm[0])},
        thick={**options, "origin_mm": begin},
    )
    build_dataset(tmp_path / "in", tmp_path / "out")
    pair = read_pair(open_dataset(tmp_path / "out").cases[0])
    assert pair.thin.hu.shape[0] == 26 and pair.thick.hu.shape[0] == 6
    error = np.abs(np.stack([pair.thin.hu[5 * k - 2 : 5 * k + 3].mean(0) for k in range(1, 5)]) - pair.thick.hu[1:5])
    assert error.max() <= 0.5


@pytest.mark.parametrize("factor", [3, 7])
def test_other_factors(tmp_path: Path, factor: int) -> None:
    write_scan(tmp_path / "in", 3, factor=factor, first=factor // 2, hu=anatomy(3, 60))
    build_dataset(tmp_path / "in", tmp_path / "out")
    pair = read_pair(open_dataset(tmp_path / "out").cases[0])
    assert pair.factor == factor and len(pair.thin.hu) == (len(pair.thick.hu) - 1) * factor + 1
    outcome = None
    with pytest.raises(AssertionError):
        outcome = build_dataset(tmp_path / "in", tmp_path / "five", rules=PairRules(factor=5))
        assert outcome.rows
    assert outcome is not None and f"The factor is {factor}, and factor=5 was requested." in reasons(outcome)


def wrong(source: Any) -> dict[str, Any]:
    return {"thin": {"hu": np.roll(source, 3, axis=0)}}


MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "frame": ({"thin": {"FrameOfReferenceUID": "1.2.3"}}, "different frames of reference"),
    "no frame": ({"thin": {"FrameOfReferenceUID": None}}, "FrameOfReferenceUID is missing"),
    "acquisition": ({"thin": {"AcquisitionNumber": 2}}, "two acquisitions"),
    "time": ({"thin": {"AcquisitionTime": "101540"}}, "acquired 40 s apart"),
    "exposure": (
        {"thin": {"IrradiationEventUID": "1.2.3.4"}, "thick": {"IrradiationEventUID": "1.2.3.5"}},
        "two exposures",
    ),
    "unknown scan": (
        {side: {"AcquisitionNumber": None, "AcquisitionTime": None} for side in ("thin", "thick")},
        "Neither AcquisitionNumber nor AcquisitionTime",
    ),
    "kernel": ({"thin": {"ConvolutionKernel": "B70f"}}, "kernels differ (B30F and B70F)"),
    "no kernel": ({"thin": {"ConvolutionKernel": ""}}, "ConvolutionKernel is missing"),
    "scanner": ({"thin": {"Manufacturer": "SIEMENS"}}, "two manufacturers"),
    "field of view": ({"thin": {"PixelSpacing": [0.6, 0.6]}}, "Their planes differ: 24 x 24 pixels of 0.7"),
    "shifted field": ({"thin": {"origin_mm": (-9.0, -20.0, 100.0)}}, "no common grid"),
    "between": ({"thin": {"origin_mm": (-10.0, -20.0, 100.5)}}, "0.50 mm apart along the depth axis"),
    "no multiple": ({"thin": {"spacing_mm": (1.2, 0.7, 0.7)}}, "no multiple of 1.2 mm"),
    "elsewhere": ({"thin": {"origin_mm": (-10.0, -20.0, 500.0)}}, "0 positions in common"),
    "as thick": ({"thin": {"thickness_mm": 5.0}}, "hardly less than 5 mm"),
    "derived": ({"thin": {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}}, "computed from others"),
    "projection": ({"thick": {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "MIP"]}}, "computed from others"),
    "burnt in": ({"thin": {"BurnedInAnnotation": "YES"}}, "marks text in the image"),
    "lossy": ({"thin": {"LossyImageCompression": "01"}}, "compressed with loss"),
    "tilt": ({"thin": {"tilt_degrees": 12.0}, "thick": {"tilt_degrees": 12.0}}, "gantry tilt"),
    "gap": ({"thin": {"missing": [11]}}, "Slices are missing"),
    "other content": (wrong(anatomy(7)), "thick slice k shows thin slice factor * k"),
    "other patient": ({"thin": {"hu": anatomy(8)}}, "do not show the same"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_what_is_no_pair_is_listed_with_the_reason(tmp_path: Path, name: str) -> None:
    options, words = MISMATCHES[name]
    write_scan(tmp_path / "in" / "bad", 7, **options)
    write_scan(tmp_path / "in" / "good", 9)
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert len(outcome.rows) == 1 and outcome.failed == 0
    assert words in reasons(outcome), reasons(outcome)
    with (tmp_path / "out" / "rejected.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert any(words in row["reason"] for row in listed)
    assert {row["study"] for row in listed} != {outcome.rows[0]["case"].split("-")[1]}
    for _, data in contents(tmp_path / "out"):
        assert_no_canary(data.decode("latin-1"))


def test_kernels_of_one_family_are_paired_and_any_when_asked(tmp_path: Path) -> None:
    siemens = {"Manufacturer": "SIEMENS"}
    thin = {**siemens, "ConvolutionKernel": "B31f"}
    write_scan(tmp_path / "family", 1, thin=thin, thick=siemens)
    row = build_dataset(tmp_path / "family", tmp_path / "a").rows[0]
    assert (row["kernel"], row["manufacturer"]) == ("B3x", "Siemens")
    write_scan(tmp_path / "mixed", 1, thin={**siemens, "ConvolutionKernel": "B70f"}, thick=siemens)
    assert build_dataset(tmp_path / "mixed", tmp_path / "b").rows == ()
    row = build_dataset(tmp_path / "mixed", tmp_path / "c", rules=PairRules(any_kernel=True)).rows[0]
    assert row["kernel"] == "B3x/B7x"


def test_of_several_pairs_one_is_taken_by_the_rules(tmp_path: Path) -> None:
    sharp = {"ConvolutionKernel": "B70f", "Manufacturer": "SIEMENS"}
    soft = {"ConvolutionKernel": "B30f", "Manufacturer": "SIEMENS"}
    write_scan(tmp_path / "in" / "sharp", 1, thin=sharp, thick=sharp, numbers=(1, 2))
    write_scan(tmp_path / "in" / "soft", 1, thin=soft, thick=soft, numbers=(7, 8))
    factor3 = {**soft, "uid": "1.2.3.3"}
    write_scan(tmp_path / "in" / "three", 1, factor=3, first=1, thick=factor3, thin=sharp, numbers=(9, 10))
    outcome = build_dataset(tmp_path / "in", tmp_path / "out", link=tmp_path / "link.csv")
    assert [(row["factor"], row["kernel"]) for row in outcome.rows] == [("5", "B3x")]
    taken = [r for r in outcome.rejections if "Another pair of the study was taken" in r.reason]
    assert len(taken) >= 3 and "factor nearest to 5" in taken[0].reason
    assert any("series 9" in r.series and "series 8" in r.with_series for r in taken)
    three = build_dataset(tmp_path / "in", tmp_path / "three", rules=PairRules(factor=3))
    assert [row["factor"] for row in three.rows] == ["3"]


def test_other_objects_are_never_taken(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", 1)
    capture = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    write_scan(tmp_path / "in" / "capture", 2, study_seed=1, patient="CANARY-ID-1", thick=capture, thin=capture)
    (tmp_path / "in" / "Kanarienvogel.txt").write_text("a letter about Kanarienvogel, " * 10)
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert len(outcome.rows) == 1 and outcome.left_out == {"not DICOM": 1}
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 2


def test_two_patients_under_one_study_are_not_mixed(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", 1, thin={"PatientID": "someone else"})
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert outcome.rows == () and outcome.studies == 2


def test_padding_becomes_air(tmp_path: Path) -> None:
    source = anatomy(4)
    outside = np.zeros(source.shape[1:], bool)
    outside[:6] = True
    source[:, outside] = -2000
    options = {"signed": True, "intercept": 0.0, "padding_tag": 63536}
    write_scan(tmp_path / "in", 4, hu=source, thin=options, thick=options)
    build_dataset(tmp_path / "in", tmp_path / "out")
    pair = read_pair(open_dataset(tmp_path / "out").cases[0])
    assert (
        pair.thin.hu.min() >= -1024 and (pair.thin.hu[:, :6] == -1024).all() and (pair.thick.hu[:, :6] == -1024).all()
    )


def test_a_build_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import thinslice.data.hospital.build as module

    for seed in range(3):
        write_scan(tmp_path / "in" / str(seed), seed)
    whole = build_dataset(tmp_path / "in", tmp_path / "whole", salt=tmp_path / "key")
    original, calls = module._pairs_of, iter(range(100))

    def stopped(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "_pairs_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_dataset(tmp_path / "in", tmp_path / "out", salt=tmp_path / "key")
    written = sorted((tmp_path / "out" / "thin").iterdir())
    assert len(written) == 2 and not (tmp_path / "out" / "manifest.csv").exists()
    # One file is damaged meanwhile: only that case is made again.
    written[0].write_bytes(b"damaged")
    untouched = written[1].stat().st_mtime_ns
    monkeypatch.setattr(module, "_pairs_of", original)
    outcome = build_dataset(tmp_path / "in", tmp_path / "out", salt=tmp_path / "key")
    assert outcome.kept == 1 and written[1].stat().st_mtime_ns == untouched
    assert outcome.rows == whole.rows
    assert dict(contents(tmp_path / "out")) == dict(contents(tmp_path / "whole"))


KILLED = """
import os, signal, sys
from pathlib import Path
import thinslice.data.hospital.build as module
original, left = module.sha256_of, [int(sys.argv[4])]
def sha256_of(path):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(path)
module.sha256_of = sha256_of
module.build_dataset(Path(sys.argv[1]), Path(sys.argv[2]), salt=Path(sys.argv[3]))
"""


def test_a_killed_build_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    for seed in range(3):
        write_scan(tmp_path / "in" / str(seed), seed)
    build_dataset(tmp_path / "in", tmp_path / "whole", salt=tmp_path / "key")
    for writings in (1, 3):
        places = [str(tmp_path / name) for name in ("in", "out", "key")]
        killed = subprocess.run([sys.executable, "-c", KILLED, *places, str(writings)], check=False)
        assert killed.returncode == -signal.SIGKILL and not (tmp_path / "out" / "manifest.csv").exists()
    (tmp_path / "out" / "thin" / f".{'a' * 12}.partial.p{'b' * 12}-s{'c' * 12}.nii.gz").touch()
    outcome = build_dataset(tmp_path / "in", tmp_path / "out", salt=tmp_path / "key")
    assert outcome.kept == 1
    assert dict(contents(tmp_path / "out")) == dict(contents(tmp_path / "whole"))


def test_a_build_is_continued_with_the_same_options_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "in", 1)
    with monkeypatch.context() as patched:
        patched.setattr(
            "thinslice.data.hospital.build.BuildState.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            build_dataset(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="other options"):
        build_dataset(tmp_path / "in", tmp_path / "out", rules=PairRules(factor=5))
    assert build_dataset(tmp_path / "in", tmp_path / "out").kept == 1
    assert not (tmp_path / "out" / ".build").exists()
    with pytest.raises(OutputExistsError, match="finished"):
        build_dataset(tmp_path / "in", tmp_path / "out")


def test_one_bad_study_does_not_stop_the_rest_and_is_tried_again(tmp_path: Path) -> None:
    write_scan(tmp_path / "in" / "good", 1)
    bad = write_scan(tmp_path / "in" / "bad", 2, thin={"transfer_syntax": "rle", "prefix": "Kanarienvogel"})
    saved = {path: path.read_bytes() for path in bad.thin.files}
    for path, data in saved.items():
        path.write_bytes(data[:-300] + bytes(300))
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert len(outcome.rows) == 1 and outcome.failed == 1 and len(open_dataset(tmp_path / "out").cases) == 1
    assert_no_canary(reasons(outcome))
    assert_no_canary((tmp_path / "out" / "rejected.csv").read_text())
    split = outcome.rows[0]["split"]
    for path, data in saved.items():
        path.write_bytes(data)
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert (len(outcome.rows), outcome.failed, outcome.kept) == (2, 0, 1)
    assert split in {row["split"] for row in outcome.rows}


def test_a_fault_in_one_study_is_named_without_what_it_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import thinslice.data.hospital.build as module

    write_scan(tmp_path / "in" / "a", 1)
    write_scan(tmp_path / "in" / "b", 2)
    original, calls = module._pairs_of, iter(range(9))

    def faulty(*arguments: Any) -> Any:
        if not next(calls):
            raise TypeError("Kanarienvogel")
        return original(*arguments)

    monkeypatch.setattr(module, "_pairs_of", faulty)
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert (len(outcome.rows), outcome.failed) == (1, 1) and "TypeError" in reasons(outcome)
    assert_no_canary(reasons(outcome))


def test_a_full_disk_stops_the_build_and_leaves_it_resumable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "in" / "a", 1)
    with monkeypatch.context() as patched:
        patched.setattr("thinslice.io.slabs.require_disk", lambda *_: (_ for _ in ()).throw(ResourceError("disk")))
        with pytest.raises(ResourceError):
            build_dataset(tmp_path / "in", tmp_path / "out")
    assert len(build_dataset(tmp_path / "in", tmp_path / "out").rows) == 1


def test_a_set_grows_with_its_key(tmp_path: Path) -> None:
    for seed in range(2):
        write_scan(tmp_path / "in" / str(seed), seed)
    key = tmp_path / "key"
    before = build_dataset(tmp_path / "in", tmp_path / "out", salt=key, fractions=(0.5, 0.0, 0.5))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shutil.rmtree(tmp_path / "in" / "0")
    for seed in range(2, 4):
        write_scan(tmp_path / "in" / str(seed), seed)
    after = build_dataset(tmp_path / "in", tmp_path / "out", salt=key, fractions=(0.5, 0.0, 0.5))
    known = {row["case"]: row for row in after.rows}
    assert len(known) == 4 and after.kept == 1
    assert all(known[row["case"]] == row for row in before.rows)
    assert sum(row["split"] == "train" for row in after.rows) == 2


def test_the_link_table_is_the_hospitals_alone(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in" / "a", 1)
    write_scan(tmp_path / "in" / "b", 2, thin={"AcquisitionNumber": 5})
    with pytest.raises(UsageError, match="outside the data set"):
        build_dataset(tmp_path / "in", tmp_path / "out", link=tmp_path / "out" / "link.csv")
    with pytest.raises(UsageError, match="outside the data set"):
        build_dataset(tmp_path / "in", tmp_path / "out", salt=tmp_path / "out" / "key")
    outcome = build_dataset(tmp_path / "in", tmp_path / "out", link=tmp_path / "link.csv")
    assert stat.S_IMODE((tmp_path / "link.csv").stat().st_mode) == 0o600
    with (tmp_path / "link.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    row = rows[outcome.rows[0]["case"]]
    assert (row["study_uid"], row["thick_series_uid"], row["thin_series_uid"]) == (
        scan.study_uid,
        scan.thick.uid,
        scan.thin.uid,
    )
    assert rows[""]["study_uid"] and "CANARY" not in (tmp_path / "link.csv").read_text()


def test_who_is_who_must_be_told(tmp_path: Path) -> None:
    write_scan(tmp_path / "in" / "a", 1, thin={"PatientID": ""}, thick={"PatientID": ""})
    write_scan(tmp_path / "in" / "b", 2, thin={"PatientID": ""}, thick={"PatientID": ""})
    outcome = build_dataset(tmp_path / "in", tmp_path / "out")
    assert outcome.rows == () and "patient_by='study'" in reasons(outcome) and outcome.failed == 0
    outcome = build_dataset(tmp_path / "in", tmp_path / "each", rules=PairRules(patient_by="study"))
    assert len({row["patient"] for row in outcome.rows}) == 2
    for seed in (3, 4):
        write_scan(tmp_path / "anonymous" / str(seed), seed, patient="ANONYMOUS")
    outcome = build_dataset(tmp_path / "anonymous", tmp_path / "one")
    assert len({row["split"] for row in outcome.rows}) == 1 and "one PatientID" in outcome.warnings[0]


def test_places_are_checked(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", 1)
    with pytest.raises(UsageError, match="would lie in its source folder"):
        build_dataset(tmp_path / "in", tmp_path / "in" / "out")
    with pytest.raises(UnreadableError, match="nothing at"):
        build_dataset(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(OutputExistsError, match="not empty"):
        build_dataset(tmp_path / "in", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "busy").mkdir()
    with sole_run(tmp_path / "busy" / "build"), pytest.raises(OutputBusyError):
        build_dataset(tmp_path / "in", tmp_path / "busy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="No DICOM object"):
        build_dataset(tmp_path / "empty", tmp_path / "none")
