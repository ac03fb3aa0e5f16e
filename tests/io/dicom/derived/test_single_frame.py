"""Derived series as files: what other readers see in them, and what happens when they cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import dcmwrite

from support.derived_series import (
    DERIVATION,
    Source,
    interpolate,
    item,
    provenance_of,
    read_derived,
    read_source,
    write_derived,
)
from support.dicom_factory import CANARY, assert_no_canary, write_series
from thinslice.errors import OutputError, OutputExistsError, ResourceError
from thinslice.geometry import Geometry
from thinslice.io.dicom.derived.single_frame import DicomSlabWriter
from thinslice.io.dicom.read import read_dicom
from thinslice.volume import Provenance

EPOCH = "1700000000"
REAL = {
    "lung_dx_A0001_5mm": (5, (20, 24)),
    "siemens_j2k_3mm_at_2mm": (2, (0, 4)),
    "ge_jpeg_lossless_1.25mm": (2, (0, 4)),
    "ge_ct3slice_1.25_at_1.0": (2, (0, 3)),
    "lidc0001_10_noncontiguous_pad63536": (2, (0, 2)),
    "sagittal_reformat_plus_odd": (3, (0, 3)),
}
"""Series of the shared data, with a factor and a run of slices that are evenly spaced."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("plain"), shape=(4, 16, 16)).files)


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, shared_dicom: Callable[[str], Path]) -> tuple[Source, int]:
    factor, (start, stop) = REAL[request.param]
    files = [path for path in sorted(shared_dicom(request.param).rglob("*")) if path.is_file()]
    return read_source([path for path in files if is_of_one_series(path, files)]).crop(start, stop), factor


def is_of_one_series(path: Path, files: list[Path]) -> bool:
    """Some folders hold other objects too: keep what has the orientation of the last file."""
    one, last = (pydicom.dcmread(p, stop_before_pixels=True, force=True) for p in (path, files[-1]))
    return one.get("ImageOrientationPatient") == last.ImageOrientationPatient and one.Rows == last.Rows


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def check_with_pydicom(folder: Path, thin: np.ndarray, grid: Geometry) -> None:
    slices = read_derived(folder)
    assert len(slices) == len(thin)
    by_depth = sorted(slices, key=lambda d: np.dot(grid.normal, np.array(d.ImagePositionPatient, float)))
    for j, dataset in enumerate(by_depth):
        assert np.allclose(dataset.ImagePositionPatient, grid.position_mm((j, 0, 0)), atol=1e-3)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.array_equal(hu, np.rint(thin[j]))


def check_with_simpleitk(folder: Path, thin: np.ndarray, grid: Geometry) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
    image = reader.Execute()
    hu = sitk.GetArrayFromImage(image)
    assert hu.shape == grid.shape
    for index in [(0, 0, 0), (grid.shape[0] - 1, 2, 3), (3, grid.shape[1] - 1, 0)]:
        point = image.TransformIndexToPhysicalPoint(index[::-1])
        assert np.allclose(point, grid.position_mm(index), atol=1e-3)
    assert np.array_equal(hu, np.rint(thin))


def check_with_highdicom(folder: Path, thin: np.ndarray, grid: Geometry) -> None:
    highdicom = pytest.importorskip("highdicom")
    volume = highdicom.get_volume_from_series(read_derived(folder))
    # Its slice order is its own choice: follow it by position.
    starts = [volume.affine @ [k, 0, 0, 1] for k in range(len(thin))]
    order = [round(grid.index_at(tuple(start[:3]))[0]) for start in starts]
    assert sorted(order) == list(range(len(thin)))
    for k, j in enumerate(order):
        assert np.allclose(starts[k][:3], grid.position_mm((j, 0, 0)), atol=1e-3)
        assert np.array_equal(volume.array[k], np.rint(thin[j]))
    assert np.allclose(volume.affine @ [0, 1, 2, 1], [*grid.position_mm((order[0], 1, 2)), 1], atol=1e-3)


CHECKS = {
    "pydicom": check_with_pydicom,
    "simpleitk": check_with_simpleitk,
    "highdicom": check_with_highdicom,
}


@pytest.mark.parametrize("reader", CHECKS)
@pytest.mark.parametrize("orientation", ["axial", "feet_first", "sagittal", "oblique"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_other_readers_see_positions_and_hu(tmp_path: Path, reader: str, orientation: str, order: str) -> None:
    made = write_series(tmp_path / "in", shape=(4, 12, 10), orientation=orientation, instance_order=order)
    thin, grid = write_derived(read_source(made.files), tmp_path / "out")
    CHECKS[reader](tmp_path / "out", thin, grid)


@pytest.mark.parametrize("reader", CHECKS)
def test_other_readers_read_real_series(tmp_path: Path, real: tuple[Source, int], reader: str) -> None:
    source, factor = real
    thin, grid = write_derived(source, tmp_path / "out", factor)
    CHECKS[reader](tmp_path / "out", thin, grid)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian dicom3tools) is not installed")
def test_dciodvfy_finds_no_new_error(tmp_path: Path, real: tuple[Source, int]) -> None:
    source, factor = real
    write_derived(source, tmp_path / "out", factor)
    # One archive leaves the SOP class to the file meta, where dciodvfy does not look: give it what it needs to judge.
    sources = []
    for number, path in enumerate(source.files):
        dataset = pydicom.dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dcmwrite(tmp_path / f"source{number}.dcm", dataset)
        sources += [path, tmp_path / f"source{number}.dcm"]
    known = set().union(*(dciodvfy_errors(path) for path in sources))
    for path in sorted((tmp_path / "out").iterdir()):
        assert dciodvfy_errors(path) <= known


def dciodvfy_errors(path: Path) -> set[str]:
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, errors="replace")
    lines = (run.stdout + run.stderr).splitlines()
    assert lines, "dciodvfy printed nothing at all, so it did not run"
    return {line for line in lines if line.startswith("Error")}


def test_files_are_what_pydicom_would_write(tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        dataset.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
        dataset.ProcedureCodeSequence = [item(CodeValue="1", CodeMeaning="胸部")]

    source = read_source(write_series(tmp_path / "in", shape=(3, 8, 9), edit=edit).files)
    thin, grid = write_derived(source, tmp_path / "out")
    writer = DicomSlabWriter(tmp_path / "none", grid, provenance_of(source), hu_range=(-1024, 3071))
    for j, path in enumerate(sorted((tmp_path / "out").iterdir())):
        written = pydicom.dcmread(path)
        header = writer.series.header(j)
        for event in ("InstanceCreation", "Series", "Content"):
            header[f"{event}Time"] = written[f"{event}Time"]
        header.ContributingEquipmentSequence = written.ContributingEquipmentSequence
        header.add_new("PixelData", "OW", np.rint(thin[j]).astype("<i2").tobytes())
        expected = BytesIO()
        dcmwrite(expected, header, enforce_file_format=True)
        assert path.read_bytes() == expected.getvalue()
        assert str(written.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_names_are_numbers_and_nothing_else_is_there(tmp_path: Path, plain: Source) -> None:
    write_derived(plain, tmp_path / "out")
    assert sorted(digests(tmp_path / "out")) == [f"thin_{j + 1:04d}.dcm" for j in range(16)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for number, dataset in enumerate(read_derived(tmp_path / "out"), start=1):
        assert dataset.InstanceNumber == number


def test_the_same_twice_gives_the_same_bytes(tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    write_derived(plain, tmp_path / "a", slab=3)
    write_derived(plain, tmp_path / "b", slab=16)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert read_derived(tmp_path / "a")[0].SeriesDate == "20231114"


def test_another_process_gives_the_same_bytes(tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    write_derived(plain, tmp_path / "a")
    code = (
        "import sys; from pathlib import Path; from support.derived_series import read_source, write_derived\n"
        "write_derived(read_source([Path(p) for p in sys.argv[2:]]), Path(sys.argv[1]))"
    )
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", code, str(tmp_path / "b"), *map(str, plain.files)]
    subprocess.run(command, check=True, env=environment)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_without_source_date_epoch_uids_and_pixels_stay_the_same(
    tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    write_derived(plain, tmp_path / "a")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    write_derived(plain, tmp_path / "b")
    for one, other in zip(read_derived(tmp_path / "a"), read_derived(tmp_path / "b"), strict=True):
        assert one.SeriesDate != other.SeriesDate
        assert (one.SOPInstanceUID, one.PixelData) == (other.SOPInstanceUID, other.PixelData)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_hu_are_rounded_and_clipped(tmp_path: Path, plain: Source, dtype: Any) -> None:
    grid = plain.geometry.thin_grid(5)
    hu = np.zeros(grid.shape, dtype)
    hu[0, 0, :3] = [3071, -1024, 32767]
    if dtype != np.int16:
        hu[0, 1, :4] = [0.4, -0.6, 1e6, -1e6]
    with DicomSlabWriter(tmp_path / "out", grid, provenance_of(plain), hu_range=(-1024, 3071)) as writer:
        writer.write(hu)
    stored = read_derived(tmp_path / "out")[0].pixel_array
    assert stored[0, :3].tolist() == [3071, -1024, 32767]
    if dtype != np.int16:
        assert stored[1, :4].tolist() == [0, -1, 32767, -32768]


def test_hu_beyond_16_bits_keep_their_values(tmp_path: Path, plain: Source) -> None:
    grid = plain.geometry.thin_grid(5)
    hu = np.linspace(-2000, 62000, int(np.prod(grid.shape)), dtype=np.float32).reshape(grid.shape)
    provenance = provenance_of(plain, padding_hu=-3000.0)
    with DicomSlabWriter(tmp_path / "out", grid, provenance, hu_range=(-2000, 62000)) as writer:
        writer.write(hu)
    for plane, dataset in zip(hu, read_derived(tmp_path / "out"), strict=True):
        restored = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.abs(restored - plane).max() <= 0.51
        padding = dataset.PixelPaddingValue * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert padding == -3000


def test_padding_keeps_its_value(tmp_path: Path) -> None:
    made = write_series(tmp_path / "in", padding_raw=-2000, signed=True, intercept=0.0, shape=(3, 16, 16))
    source = read_source(made.files)
    write_derived(source, tmp_path / "out", padding_hu=-2000.0)
    for dataset in read_derived(tmp_path / "out"):
        assert dataset["PixelPaddingValue"].VR == "SS"
        assert dataset.PixelPaddingValue == dataset.pixel_array[0, 0] == -2000


def test_a_program_in_the_preamble_is_not_copied(tmp_path: Path) -> None:
    preamble = (b"MZ\x90\0" + b"\x7fELF" + b"evil" * 40)[:128]
    source = read_source(write_series(tmp_path / "in", shape=(2, 8, 8), preamble=preamble).files)
    write_derived(source, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes()[:132] == b"\0" * 128 + b"DICM"


def test_hostile_uids_do_not_leave_the_folder(tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "../../x"

    with pytest.warns(UserWarning, match="Invalid value"):
        source = read_source(write_series(tmp_path / "deep" / "er" / "in", shape=(2, 8, 8), edit=edit).files)
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        write_derived(source, tmp_path / "deep" / "er" / "out")
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in new} == {tmp_path / "deep" / "er" / "out"}
    for path in new:
        assert b"../../x" not in path.read_bytes()


def test_identity_is_in_the_files_alone(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        # Values that pydicom complains about, quoting them.
        dataset.PatientBirthDate, dataset.PatientAge = "19170307canary", "canary age"

    source = read_source(write_series(tmp_path / "in", shape=(3, 8, 8), edit=edit).files)
    caplog.clear()
    recwarn.clear()
    capfd.readouterr()
    write_derived(source, tmp_path / "out")
    with pytest.raises(OutputExistsError) as exists:
        write_derived(source, tmp_path / "out")
    with (
        pytest.raises(OutputError) as short,
        DicomSlabWriter(tmp_path / "short", source.geometry.thin_grid(5), provenance_of(source), hu_range=(0, 1)),
    ):
        pass
    printed = capfd.readouterr()
    messages = [str(warning.message) for warning in recwarn]
    for text in (
        exists.value,
        short.value,
        printed.out,
        printed.err,
        caplog.text,
        messages,
        list(digests(tmp_path / "out")),
    ):
        assert_no_canary(text)
    assert read_derived(tmp_path / "out")[0].PatientName == CANARY["PatientName"]


def test_an_existing_folder_needs_overwrite(tmp_path: Path, plain: Source) -> None:
    write_derived(plain, tmp_path / "out", factor=4)
    before = digests(tmp_path / "out")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        write_derived(plain, tmp_path / "out")
    assert digests(tmp_path / "out") == before
    write_derived(plain, tmp_path / "out", overwrite=True)
    assert len(digests(tmp_path / "out")) == 16


def test_overwriting_spares_what_is_not_ours(tmp_path: Path, plain: Source) -> None:
    before = digests(plain.files[0].parent)
    with pytest.raises(OutputError, match="choose another folder"):
        write_derived(plain, plain.files[0].parent, overwrite=True)
    assert digests(plain.files[0].parent) == before


def test_nothing_is_left_when_the_block_raises(tmp_path: Path, plain: Source) -> None:
    grid = plain.geometry.thin_grid(5)
    with (
        pytest.raises(KeyboardInterrupt),
        DicomSlabWriter(tmp_path / "out", grid, provenance_of(plain), hu_range=(0, 1)) as writer,
    ):
        writer.write(np.zeros((2, 16, 16), np.int16))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("slab", "message"),
    [
        (np.zeros((15, 16, 16), np.int16), "Only 15 of 16"),
        (np.zeros((17, 16, 16), np.int16), "does not fit the grid"),
        (np.zeros((16, 16, 15), np.int16), "does not fit the grid"),
        (np.zeros((16, 16), np.int16), "does not fit the grid"),
        (np.full((16, 16, 16), np.nan, np.float32), "not numbers"),
        (np.full((16, 16, 16), np.inf, np.float32), "not numbers"),
    ],
)
def test_wrong_slabs_are_refused_and_leave_nothing(
    tmp_path: Path, plain: Source, slab: np.ndarray, message: str
) -> None:
    grid = plain.geometry.thin_grid(5)
    with (
        pytest.raises(OutputError, match=message),
        DicomSlabWriter(tmp_path / "out", grid, provenance_of(plain), hu_range=(0, 1)) as writer,
    ):
        writer.write(slab)
    assert not list(tmp_path.iterdir())


def test_writing_outside_the_block_is_refused(tmp_path: Path, plain: Source) -> None:
    writer = DicomSlabWriter(tmp_path / "out", plain.geometry.thin_grid(5), provenance_of(plain), hu_range=(0, 1))
    with pytest.raises(OutputError, match="with block"):
        writer.write(np.zeros((1, 16, 16), np.int16))


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def fill_up(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "thin_0003.dcm":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", fill_up)
    with pytest.raises(ResourceError, match="disk is full"):
        write_derived(plain, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_disk_too_small_is_refused_before_the_start(
    tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=16 * 16 * 16 * 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    grid = plain.geometry.thin_grid(5)
    with (
        pytest.raises(ResourceError, match="free some space"),
        DicomSlabWriter(tmp_path / "out", grid, provenance_of(plain), hu_range=(0, 1)),
    ):
        pytest.fail("must not start")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system where nobody can create files")
def test_a_place_that_takes_no_files_is_an_output_error(plain: Source) -> None:
    with pytest.raises(OutputError, match="Cannot write 'out'"):
        write_derived(plain, Path("/proc/self/out"))


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_our_own_reader_gives_back_grid_and_hu(tmp_path: Path, order: str) -> None:
    made = write_series(tmp_path / "in", shape=(4, 12, 10), orientation="oblique", instance_order=order)
    thick = read_dicom(tmp_path / "in")
    grid = thick.geometry.thin_grid(5)
    thin = np.rint(interpolate(thick.hu.astype(float), 5)).astype(np.int16)
    provenance = Provenance("dicom", headers=thick.provenance.headers, derivation=DERIVATION)
    with DicomSlabWriter(tmp_path / "out", grid, provenance, hu_range=(-1024, 3071)) as writer:
        writer.write(thin)
    again = read_dicom(tmp_path / "out")
    assert np.array_equal(again.hu, thin)
    assert again.geometry.shape == grid.shape
    assert again.geometry.thickness_mm == pytest.approx(1)
    assert np.allclose(again.geometry.affine_lps, grid.affine_lps, atol=1e-3)
    assert np.allclose(again.geometry.position_mm((5, 0, 0)), made.positions_mm[1], atol=1e-6)


@pytest.mark.parametrize("code", [errno.EFBIG, errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT])
def test_any_error_of_the_system_while_writing_leaves_nothing(
    tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    opened = Path.open

    class Failing:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: Any) -> None:
            raise OSError(code, os.strerror(code))  # write() names no file

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        file = opened(path, *args, **kwargs)
        return Failing(file) if path.name == "thin_0003.dcm" else file

    monkeypatch.setattr(Path, "open", failing)
    expected = ResourceError if code in (errno.ENOSPC, errno.EDQUOT) else OutputError
    with pytest.raises(expected, match="'out'"):
        write_derived(plain, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
def test_a_limit_on_file_sizes_is_an_output_error(tmp_path: Path, plain: Source) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from support.derived_series import read_source, write_derived; from thinslice.errors import OutputError\n"
        "source = read_source([Path(p) for p in sys.argv[2:]])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
        "try: write_derived(source, Path(sys.argv[1]))\n"
        "except OutputError as error: sys.exit(error.exit_code)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "out"), *map(str, plain.files)]
    assert subprocess.run(command, env=environment, check=False).returncode == 5
    assert not list(tmp_path.iterdir())


def test_a_name_too_long_is_an_output_error(tmp_path: Path, plain: Source) -> None:
    with pytest.raises(OutputError, match="too long"):
        write_derived(plain, tmp_path / ("n" * 300))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "words"),
    [((0.25, 1.5), "rounded to whole HU"), ((1.0, -3.0), None), ((1e6, 0.0), "clipped")],
    ids=["fractions", "whole", "too large"],
)
def test_what_16_bits_cannot_hold_is_stated(
    tmp_path: Path, plain: Source, values: tuple[float, ...], words: str | None
) -> None:
    grid = plain.geometry.thin_grid(5)
    hu = np.zeros(grid.shape, np.float32)
    hu[3, 0, :2] = values
    with DicomSlabWriter(tmp_path / "out", grid, provenance_of(plain), hu_range=(-1024, 3071)) as writer:
        writer.write(hu)
    assert [words in sentence for sentence in writer.warnings if words] == ([True] if words else [])
    assert bool(writer.warnings) == (words is not None)
