"""Files made to harm: bombs, endless nesting, false lengths, names and UIDs that try to get out."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from support.dicom_factory import CANARY, assert_no_canary, save, write_series
from thinslice.errors import InputError, UnreadableError
from thinslice.io.dicom.files import archives
from thinslice.io.dicom.files.codestream import codestream_size, sound_jpeg
from thinslice.io.dicom.read import read_dicom, scan

# pydicom warns while the tests write files with values that no file should hold.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def element(group: int, number: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    """An explicit little-endian element with whatever length is claimed."""
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return struct.pack("<HH2sHL", group, number, vr, 0, length) + value
    return struct.pack("<HH2sH", group, number, vr, length) + value


def insert(path: Path, extra: bytes, before: bytes) -> None:
    """Put bytes before the first element that begins with `before`."""
    data = path.read_bytes()
    at = data.index(before)
    path.write_bytes(data[:at] + extra + data[at:])


PIXELS = b"\xe0\x7f\x10\x00OW"


@pytest.mark.parametrize("levels", [300, 5000])
@pytest.mark.parametrize("undefined", [True, False])
def test_nested_sequences_are_skipped(tmp_path: Path, levels: int, undefined: bool) -> None:
    made = write_series(tmp_path, shape=(6, 16, 16))
    nested = b""
    for _ in range(levels):
        size = 0xFFFFFFFF if undefined else len(nested)
        item = struct.pack("<HHL", 0xFFFE, 0xE000, size) + nested
        if undefined:
            item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        nested = element(0x0040, 0xA730, b"SQ", size if undefined else len(item), item)
        if undefined:
            nested += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    insert(made.files[5], nested, PIXELS)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu[:5])
    assert "nested deeper than 32" in " ".join(volume.provenance.warnings)
    with pytest.raises(UnreadableError, match="nested"):
        read_dicom(made.files[5])


@pytest.mark.parametrize("vr", [b"OB", b"UN"])
def test_a_huge_claimed_length_takes_no_memory(tmp_path: Path, vr: bytes) -> None:
    made = write_series(tmp_path, shape=(6, 16, 16))
    insert(made.files[5], element(0x0029, 0x1010, vr, 0xF0000000), PIXELS)
    tracemalloc.start()
    volume = read_dicom(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    np.testing.assert_array_equal(volume.hu, made.hu[:5])


def test_a_deflate_bomb_is_refused_within_bounds(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(6, 16, 16), transfer_syntax="deflated")
    path = made.files[5]
    data = path.read_bytes()
    end = 144 + int.from_bytes(data[140:144], "little")
    body = zlib.decompress(data[end:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(body + element(0x7FE1, 0x1010, b"OB", 512 * 2**20))
    for _ in range(512):
        packed += packer.compress(bytes(2**20))
    path.write_bytes(data[:end] + packed + packer.flush())
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    volume = read_dicom(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 2**20
    assert "bomb" in " ".join(volume.provenance.warnings)
    np.testing.assert_array_equal(volume.hu, made.hu[:5])
    with pytest.raises(UnreadableError, match="bomb"):
        read_dicom(path)


def test_a_deflate_bomb_cannot_hide_its_transfer_syntax(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(1, 16, 16), transfer_syntax="deflated")
    data = made.files[0].read_bytes()
    end = 144 + int.from_bytes(data[140:144], "little")
    # The transfer syntax behind 100 kB of private meta information, in the wrong order.
    at = data.index(b"\x02\x00\x10\x00UI")
    size = 8 + struct.unpack("<H", data[at + 6 : at + 8])[0]
    syntax = data[at : at + size]
    private = element(0x0002, 0x0102, b"OB", 100_000, bytes(100_000))
    packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packed.compress(bytes(200 * 2**20)) + packed.flush()
    made.files[0].write_bytes(data[:at] + data[at + size : end] + private + syntax + bomb)
    with pytest.raises(UnreadableError, match="bomb"):
        read_dicom(tmp_path)


def test_a_codestream_of_another_size_is_never_decoded(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(6, 64, 64), transfer_syntax="jpeg_2000")
    data = bytearray(made.files[5].read_bytes())
    at = data.index(b"\xff\x4f\xff\x51")
    data[at + 8 : at + 16] = struct.pack(">LL", 60_000, 60_000)
    made.files[5].write_bytes(data)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu[:5])


def test_a_decoder_that_panics_costs_one_slice(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(6, 32, 32), transfer_syntax="rle")
    data = bytearray(made.files[5].read_bytes())
    item = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00") + 20)
    # Runs longer than the segment: the decoder writes past its buffer and panics.
    data[item + 8 + 64 :] = b"\x81\x07" * ((len(data) - item - 72) // 2) + data[len(data) - 8 :]
    made.files[5].write_bytes(data)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu[:5])


def test_codestream_sizes_of_unknown_bytes_are_unknown() -> None:
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51", b"RLE!" * 10):
        assert codestream_size(data) is None


@pytest.mark.parametrize("uid", ["../../x", "1.2.840/../..", CANARY["PatientName"], "1.2\n3", "x" * 5000])
def test_hostile_uids_are_contained_and_can_be_chosen(tmp_path: Path, uid: str) -> None:
    def spoil(dataset, k: int) -> None:
        dataset["SeriesInstanceUID"]._value = uid
        dataset["SOPInstanceUID"]._value = uid

    made = write_series(tmp_path / "a", edit=spoil)
    write_series(tmp_path / "b", seed=3)
    labels = [report.series_uid for report in scan(tmp_path)]
    assert any(label.startswith("malformed-uid-") for label in labels)
    assert_no_canary(labels)
    assert not any("/" in label or "\n" in label or len(label) > 80 for label in labels)
    chosen = next(label for label in labels if label.startswith("malformed"))
    volume = read_dicom(tmp_path, series_uid=chosen)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert_no_canary(volume.provenance.details)


def test_values_that_explode_on_conversion_are_refused_in_a_sentence(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(6, 16, 16))
    for file in made.files:
        data = file.read_bytes()
        for tag, vr in ((b"\x20\x00\x32\x00", b"DS"), (b"\x28\x00\x53\x10", b"DS")):
            at = data.index(tag + vr) + 6
            size = struct.unpack("<H", data[at : at + 2])[0]
            data = data[: at + 2] + b"1e\\nan\\\xff\xfe"[:size].ljust(size, b"Q") + data[at + 2 + size :]
        file.write_bytes(data)
    with pytest.raises(InputError):
        read_dicom(tmp_path)
    assert scan(tmp_path)[0].reasons


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_never_escapes_as_another_error(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    encoding = ["explicit", "implicit", "deflated", "jpeg_ls", "jpeg_2000", "rle"][seed]
    made = write_series(tmp_path, shape=(4, 32, 32), transfer_syntax=encoding)
    whole = [file.read_bytes() for file in made.files]
    for _ in range(12):
        for file, data in zip(made.files, whole, strict=True):
            spoiled = bytearray(data)
            for at in random.integers(132, min(len(data), 1500), 6):
                spoiled[at] = random.integers(256)
            file.write_bytes(spoiled)
        for read in (scan, read_dicom):
            try:
                assert_no_canary(getattr(read(tmp_path), "provenance", None))
            except InputError as error:
                assert "\n" not in str(error)


def test_a_zip_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 2**20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(4):
            archive.writestr(str(k), bytes(2**22))
    with pytest.raises(UnreadableError, match="bomb"):
        read_dicom(path)


def test_zip_members_that_lie_or_are_locked_are_skipped(tmp_path: Path) -> None:
    made = write_series(tmp_path / "ct", shape=(4, 16, 16))
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k, file in enumerate(made.files):
            archive.write(file, f"{k}")
        archive.writestr("a\x1b[31m\nname", b"text" * 100)
        archive.writestr("locked", b"secret" * 100)
        archive.writestr("folder/", b"")
        damaged = archive.infolist()[3].header_offset + 2000
    data = bytearray(path.read_bytes())
    data[damaged] ^= 0xFF
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"locked"))
    data[at + 8] |= 1
    path.write_bytes(data)
    volume = read_dicom(path)
    np.testing.assert_array_equal(volume.hu, made.hu[:3])
    (text,) = (warning for warning in volume.provenance.warnings if "skipped" in warning)
    assert "\x1b" not in text
    assert "\n" not in text
    assert "locked" in text


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    made = write_series(tmp_path / "ct")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(made.files[0], "a")
    for cut in (40, len(buffer.getvalue()) - 30):
        path = tmp_path / "cut.zip"
        path.write_bytes(buffer.getvalue()[:cut])
        with pytest.raises(UnreadableError):
            read_dicom(path)


def test_pipes_links_and_locked_files_do_not_stop_a_folder(tmp_path: Path) -> None:
    made = write_series(tmp_path / "ct")
    folder = tmp_path / "ct"
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    (folder / "loop").symlink_to(folder)
    np.testing.assert_array_equal(read_dicom(folder).hu, made.hu)
    with pytest.raises(UnreadableError, match="neither a file nor a folder"):
        read_dicom(folder / "pipe")


def test_a_dicomdir_is_ignored_in_silence(tmp_path: Path) -> None:
    made = write_series(tmp_path)

    def directory(dataset, k: int) -> None:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.1.3.10"
        dataset.DirectoryRecordSequence = [Dataset()]

    write_series(tmp_path / "index", shape=(1, 4, 4), edit=directory, prefix="DICOMDIR", suffix="")
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.provenance.warnings == ()


def test_the_factory_saves_what_it_is_given(tmp_path: Path) -> None:
    kept = []
    write_series(tmp_path, shape=(1, 8, 8), edit=lambda dataset, k: kept.append(dataset))
    assert save(kept[0], tmp_path / "again.dcm").is_file()


def test_sound_jpeg_headers_are_distinguished_from_others() -> None:
    table = b"\xff\xc4\x00\x14\x00\x01" + bytes(15) + b"\x05"
    frame = bytes.fromhex("ffc3000b100008000801011100")
    scan_header = bytes.fromhex("ffda0008010100010000")
    sound = b"\xff\xd8" + table + frame + scan_header + b"\x00\xff\xd9"
    assert sound_jpeg(sound, 12, 16)
    assert sound_jpeg(sound + b"\xc0", 16, 16)
    for bad in (
        b"",
        sound[:-2],
        sound.replace(table, b""),
        sound.replace(frame, b""),
        sound.replace(frame, frame * 2),
        sound.replace(b"\xff\xc4\x00\x14", b"\xff\xc4\x00\x40"),
        sound.replace(b"\x00\x01" + bytes(15), b"\x00\xff" + bytes(15)),
        sound.replace(scan_header, bytes.fromhex("ffda0008010200010000")),
        sound.replace(scan_header, bytes.fromhex("ffda0008010110010000")),
        sound.replace(frame, frame.replace(b"\x10\x00\x08", b"\x08\x00\x08")),
    ):
        assert not sound_jpeg(bad, 12, 16)
