"""Archives as inputs: the same volume as from the folder, within bounds, and no slice lost without a word."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import thinslice
from support.dicom_factory import write_series
from thinslice.errors import UnreadableError
from thinslice.io.dicom.files import archives, unpack
from thinslice.io.dicom.files.input_files import input_files
from thinslice.io.dicom.read import read_dicom
from thinslice.io.files import sniff


@pytest.fixture
def made(tmp_path: Path) -> SimpleNamespace:
    return write_series(tmp_path / "ct", shape=(4, 16, 16))


def zipped(files: list[Path], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for file in files:
            archive.write(file, f"some/where/{file.name}")
    return buffer.getvalue()


def tarred(files: list[Path], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for file in files:
            archive.add(file, f"some/where/{file.name}")
    return buffer.getvalue()


def zip_of(content: bytes, name: str = "inner") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


PACKED: dict[str, Callable[[list[Path]], bytes]] = {
    "zip": zipped,
    "stored zip": lambda files: zipped(files, zipfile.ZIP_STORED),
    "bzip2 zip": lambda files: zipped(files, zipfile.ZIP_BZIP2),
    "tar": tarred,
    "tar.gz": lambda files: tarred(files, "w:gz"),
    "tar.bz2": lambda files: tarred(files, "w:bz2"),
    "tar.xz": lambda files: tarred(files, "w:xz"),
    "zip in zip": lambda files: zip_of(zipped(files)),
    "tar.gz in zip": lambda files: zip_of(tarred(files, "w:gz")),
    "zip in tar.gz": lambda files: gzip.compress(tarred_bytes({"a": zipped(files)})),
    "bytes after gzip": lambda files: gzip.compress(tarred(files)) + b"behind the stream",
}


def tarred_bytes(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("form", PACKED)
def test_an_archive_is_read_as_its_folder(made: SimpleNamespace, tmp_path: Path, form: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(PACKED[form](made.files))
    assert sniff(path) == "zip"
    volume = thinslice.read(path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.provenance.warnings == ()


@pytest.mark.parametrize("form", PACKED)
def test_an_archive_inside_a_folder_is_read(made: SimpleNamespace, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "readme.txt").write_text("text " * 200)
    (folder / "study").write_bytes(PACKED[form](made.files))
    np.testing.assert_array_equal(read_dicom(folder).hu, made.hu)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_single_files_that_are_packed_are_read(
    made: SimpleNamespace, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    for file in made.files:
        (folder / f"{file.name}.gz").write_bytes(pack(file.read_bytes()))
    np.testing.assert_array_equal(read_dicom(folder).hu, made.hu)
    alone = thinslice.read(folder / f"{made.files[0].name}.gz")
    np.testing.assert_array_equal(alone.hu, made.hu[:1])


def test_compressed_pixels_in_an_archive_are_decoded_by_the_child_process(tmp_path: Path) -> None:
    made = write_series(tmp_path / "ct", shape=(4, 32, 32), transfer_syntax="jpeg_ls")
    path = tmp_path / "study.tgz"
    path.write_bytes(tarred(made.files, "w:gz"))
    np.testing.assert_array_equal(read_dicom(path).hu, made.hu)


def test_a_series_named_twice_is_read_once(made: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "ct" / "all.tar"
    path.write_bytes(tarred(made.files))
    assert len(list(input_files([path, path]))) == 4
    np.testing.assert_array_equal(read_dicom(tmp_path / "ct").hu, made.hu)


def entry_of(data: bytes, number: int) -> tuple[int, int]:
    """Extent of an entry in the directory of a zip."""
    at = data.index(b"PK\x01\x02")
    for _ in range(number):
        at += 46 + sum(struct.unpack("<HHH", data[at + 28 : at + 34]))
    return at, at + 46 + sum(struct.unpack("<HHH", data[at + 28 : at + 34]))


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("lost", [0, 3])
def test_entries_lost_from_the_directory_of_a_zip_are_missed(
    made: SimpleNamespace, tmp_path: Path, lost: int, counted: bool
) -> None:
    data = bytearray(zipped(made.files))
    start, end = entry_of(data, lost)
    del data[start:end]
    record = data.rindex(b"PK\x05\x06")
    size = int.from_bytes(data[record + 12 : record + 16], "little") - (end - start)
    data[record + 12 : record + 16] = size.to_bytes(4, "little")
    if not counted:
        data[record + 8 : record + 12] = struct.pack("<HH", 3, 3)
    path = tmp_path / "lost.zip"
    path.write_bytes(data)
    volume = read_dicom(path)
    np.testing.assert_array_equal(volume.hu, np.delete(made.hu, lost, axis=0))
    assert any("1 file(s) of the zip, which its directory has lost" in text for text in volume.provenance.warnings)


def test_a_count_at_the_end_that_the_zip_does_not_hold_is_said(made: SimpleNamespace, tmp_path: Path) -> None:
    data = bytearray(zipped(made.files))
    record = data.rindex(b"PK\x05\x06")
    data[record + 8 : record + 12] = struct.pack("<HH", 6, 6)
    path = tmp_path / "counted.zip"
    path.write_bytes(data)
    assert any("2 file(s) of the zip" in text for text in read_dicom(path).provenance.warnings)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_half_an_archive_is_called_damaged(made: SimpleNamespace, tmp_path: Path, form: str, share: float) -> None:
    data = PACKED[form](made.files)
    path = tmp_path / "half"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UnreadableError, match=r"damaged|cut short"):
        thinslice.read(path)
    folder = tmp_path / "folder"
    folder.mkdir()
    path.rename(folder / "half")
    with pytest.raises(UnreadableError, match=r"damaged|cut short"):
        read_dicom(folder)


def test_a_tar_that_is_cut_keeps_what_is_whole_and_says_so(made: SimpleNamespace, tmp_path: Path) -> None:
    data = tarred(made.files)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        starts = [entry.offset for entry in archive]
    for name, cut in (("border", data[: starts[3]]), ("zeroed", data[: starts[3]] + b"x" * 600)):
        path = tmp_path / name
        path.write_bytes(cut)
        volume = read_dicom(path)
        np.testing.assert_array_equal(volume.hu, made.hu[:3])
        assert any("tar is damaged or cut short" in text for text in volume.provenance.warnings)


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_to_an_archive_never_escapes_or_changes_voxels(
    made: SimpleNamespace, tmp_path: Path, seed: int
) -> None:
    form = ["zip", "tar", "tar.gz", "tar.gz in zip"][seed]
    whole = PACKED[form](made.files)
    random = np.random.default_rng(seed)
    path = tmp_path / "input"
    for _ in range(40):
        spoiled = bytearray(whole)
        for at in random.integers(0, len(whole), 2):
            spoiled[at] ^= 1 << random.integers(8)
        path.write_bytes(spoiled)
        try:
            volume = thinslice.read(path)
        except thinslice.ThinsliceError:
            continue
        if form != "tar":  # a plain tar has no checksum of its members
            full = volume.hu.shape == made.hu.shape
            assert full or volume.provenance.warnings
            for plane in volume.hu:
                assert any(np.array_equal(plane, true) for true in made.hu)


def test_bombs_of_every_kind_are_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (archives, unpack):
        monkeypatch.setattr(module, "RATIO_FREE_BYTES", 2**20)
    zeros = bytes(2**24)
    dicom_like = bytes(128) + b"DICM" + zeros
    bombs = {
        "gzip": gzip.compress(dicom_like),
        "xz": lzma.compress(dicom_like),
        "bzip2": bz2.compress(dicom_like),
        "tar": gzip.compress(tarred_bytes({"a": dicom_like})),
        "zip": zipped_bytes(dicom_like),
        "zip in zip": zip_of(zipped_bytes(dicom_like)),
    }
    for name, bomb in bombs.items():
        path = tmp_path / name
        path.write_bytes(bomb)
        with pytest.raises(UnreadableError, match="bomb"):
            thinslice.read(path)


def zipped_bytes(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content)
    return buffer.getvalue()


@pytest.mark.parametrize("nest", [zip_of, gzip.compress, lambda data: tarred_bytes({"a": data})])
def test_endless_nesting_is_refused(tmp_path: Path, made: SimpleNamespace, nest: Callable[[bytes], bytes]) -> None:
    data = zipped(made.files)
    for _ in range(30):
        data = nest(data)
    path = tmp_path / "deep"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="nested deeper"):
        read_dicom(path)


def test_the_total_of_nested_archives_is_bounded(
    tmp_path: Path, made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 20_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for k in range(40):
            archive.writestr(f"{k}", gzip.compress(tarred(made.files[:1])))
    path = tmp_path / "many.zip"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UnreadableError, match="bomb"):
        read_dicom(path)


@pytest.mark.parametrize(
    "name", ["", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "../../etc/x", "/"]
)
def test_names_in_an_archive_do_no_harm(tmp_path: Path, made: SimpleNamespace, name: str) -> None:
    contents = {f"{k}": file.read_bytes() for k, file in enumerate(made.files)}
    path = tmp_path / "named.tar"
    path.write_bytes(tarred_bytes({**contents, name: b"text " * 100}))
    np.testing.assert_array_equal(read_dicom(path).hu, made.hu)


def test_a_name_that_is_not_the_utf8_it_claims_is_a_refusal(tmp_path: Path, made: SimpleNamespace) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for k, file in enumerate(made.files):
            archive.write(file, str(k))
        archive.writestr("é.txt", "x")
    data = bytearray(buffer.getvalue())
    data[data.rindex(b"PK\x01\x02") + 46] = 0xF1
    path = tmp_path / "utf8.zip"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="damaged"):
        read_dicom(path)


def test_nothing_of_an_archive_stays_open(tmp_path: Path, made: SimpleNamespace) -> None:
    path = tmp_path / "study.tgz"
    path.write_bytes(tarred(made.files, "w:gz"))
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return
    read_dicom(path)
    before = len(list(folder.iterdir()))
    for _ in range(5):
        read_dicom(path)
    assert len(list(folder.iterdir())) == before
