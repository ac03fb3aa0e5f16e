"""A split's zip that is sound, damaged or hostile."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from support.record_server import split_zip
from thinslice.data.download.unpack import unpack
from thinslice.errors import OutputExistsError, UnreadableError


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("folder", ["", "train/", "RPLHR/data/train/"])
def test_the_two_folders_are_found_wherever_they_lie(tmp_path: Path, folder: str) -> None:
    (tmp_path / "train.zip").write_bytes(split_zip(0, folder=folder))
    seen: list[tuple[int, int]] = []
    outcome = unpack(tmp_path / "train.zip", tmp_path / "train", progress=lambda *at: seen.append(at))
    with zipfile.ZipFile(tmp_path / "train.zip") as archive:
        for thickness in ("1mm", "5mm"):
            for case in ("CT00000000.nii.gz", "CT00000001.nii.gz"):
                content = archive.read(f"{folder}{thickness}/{case}")
                assert (tmp_path / "train" / thickness / case).read_bytes() == content
                assert outcome.files[f"{thickness}/{case}"][0] == len(content)
    assert len(outcome.files) == 4 and outcome.left_out == 0
    assert seen[-1][0] == seen[-1][1] == sum(size for size, _ in outcome.files.values())


def test_other_files_are_left_out(tmp_path: Path) -> None:
    zip_of(
        tmp_path / "a.zip",
        ("1mm/CT00000000.nii.gz", b"thin"),
        ("readme.txt", b"hello"),
        ("2mm/CT00000000.nii.gz", b"other"),
        ("1mm/run.sh", b"#!"),
        ("__MACOSX/1mm/._CT00000000.nii.gz", b"rubbish"),
    )
    outcome = unpack(tmp_path / "a.zip", tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").rglob("*") if path.is_file()] == ["CT00000000.nii.gz"]
    assert outcome.left_out == 3


@pytest.mark.parametrize(
    "name",
    [
        "../1mm/CT00000000.nii.gz",
        "/1mm/CT00000000.nii.gz",
        "a/../../1mm/CT.nii",
        "..\\1mm\\x.nii.gz",
        "c:/1mm/x.nii",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    zip_of(tmp_path / "a.zip", ("1mm/CT00000000.nii.gz", b"thin"), (name, b"evil"))
    with pytest.raises(UnreadableError, match="leads out"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("1mm/CT00000000.nii.gz")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    zip_of(tmp_path / "a.zip", (link, b"/etc/passwd"))
    with pytest.raises(UnreadableError, match="link"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


def test_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    zip_of(tmp_path / "a.zip", ("x/1mm/CT1.nii.gz", b"a"), ("y/1mm/CT1.nii.gz", b"b"))
    with pytest.raises(UnreadableError, match="twice"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    zip_of(tmp_path / "a.zip", ("1mm/CT1.nii.gz", bytes(80 << 20)))
    with pytest.raises(UnreadableError, match="far more than its size allows"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_bomb_that_declares_little_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1mm/CT1.nii.gz", bytes(20 << 20))
    lying = bytearray(packed.getvalue())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = lying.index(signature) + offset
        assert struct.unpack_from("<I", lying, at)[0] == 20 << 20
        struct.pack_into("<I", lying, at, 1000)
    (tmp_path / "a.zip").write_bytes(lying)
    with pytest.raises(UnreadableError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("at", [200, 60_000, -10])
def test_damage_is_refused_and_nothing_is_left(tmp_path: Path, at: int) -> None:
    content = bytearray(split_zip(0))
    content[at] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UnreadableError):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_what_is_no_zip_or_no_split(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(UnreadableError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    zip_of(tmp_path / "b.zip", ("photos/cat.jpg", b"meow"))
    with pytest.raises(UnreadableError, match="not a split of RPLHR-CT"):
        unpack(tmp_path / "b.zip", tmp_path / "b")


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(split_zip(0))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").touch()
    with pytest.raises(OutputExistsError):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    unpack(tmp_path / "a.zip", tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / "5mm" / "CT00000001.nii.gz").is_file()
