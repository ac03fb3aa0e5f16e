"""A header and its voxels in two files belong together at every moment, however a run ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thinslice.errors import ThinsliceError
from thinslice.geometry import Geometry
from thinslice.io.files import read, write
from thinslice.volume import Volume

pytest.importorskip("SimpleITK")


def filled(value: int, depth: int = 4) -> Volume:
    hu = np.full((depth, 6, 5), value, np.int16)
    hu[0, 0, 0] = -1000
    return Volume(hu, Geometry((depth, 6, 5), (5.0, 0.7, 0.7)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_header_names_voxels_by_their_content(tmp_path: Path) -> None:
    write(filled(10), tmp_path / "a b.mhd")
    (voxels,) = names(tmp_path) - {"a b.mhd"}
    assert re.fullmatch(r"a b\.[0-9a-f]{12}\.zraw", voxels)
    assert f"ElementDataFile = {voxels}" in (tmp_path / "a b.mhd").read_text()
    before = (tmp_path / voxels).read_bytes()
    write(filled(10), tmp_path / "a b.mhd", overwrite=True)
    assert names(tmp_path) == {"a b.mhd", voxels}
    assert (tmp_path / voxels).read_bytes() == before


def test_long_names_that_begin_alike_keep_their_voxels_apart(tmp_path: Path) -> None:
    first, second = (tmp_path / f"{'n' * 240}{letter}.mhd" for letter in "ab")
    write(filled(1), first)
    write(filled(2), second)
    write(filled(3), second, overwrite=True)
    assert read(first).hu[1, 1, 1] == 1
    assert read(second).hu[1, 1, 1] == 3
    assert len(names(tmp_path)) == 4


def test_a_pair_with_a_raw_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(filled(7).hu), str(tmp_path / "case.mhd"))
    assert names(tmp_path) == {"case.mhd", "case.raw"}
    write(filled(8), tmp_path / "case.mhd", overwrite=True)
    assert "case.raw" not in names(tmp_path)
    assert read(tmp_path / "case.mhd").hu[1, 1, 1] == 8


KILLED = """
import os, signal, sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from test_pairs import filled
from thinslice.io.files import write
left = int(sys.argv[2])
def counted(real):
    def call(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments, **options)
    return call
for name in ("replace", "rename", "link", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
write(filled(2, depth=7), sys.argv[1], overwrite=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("exists", [True, False])
def test_a_run_killed_before_any_change_of_a_name_leaves_the_old_pair_or_the_new_one(
    tmp_path: Path, exists: bool
) -> None:
    header = tmp_path / "case.mhd"
    found = set()
    for calls in range(20):
        if exists:
            write(filled(1), header, overwrite=True)
        else:
            header.unlink(missing_ok=True)
        run = subprocess.run(
            [sys.executable, "-c", KILLED, str(header), str(calls), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode in (0, -9), run.stderr
        try:
            volume = read(header)
            assert volume.hu.shape[0] == (7 if volume.hu[1, 1, 1] == 2 else 4)
            found.add(int(volume.hu[1, 1, 1]))
        except ThinsliceError:
            assert not exists
            assert not header.exists()
        write(filled(3), header, overwrite=True)
        assert len(names(tmp_path)) == 2
        if run.returncode == 0:
            break
    assert run.returncode == 0
    assert calls >= 3
    assert found == ({1, 2} if exists else {2})


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_one_flipped_bit_in_the_voxels_that_we_write_is_noticed(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    hu = np.cumsum(rng.normal(0, 20, (6, 20, 20)), axis=0).astype(np.int16)
    write(Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7))), tmp_path / f"case{suffix}")
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    for at in rng.integers(len(content) // 3, len(content), 60):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        largest.write_bytes(damaged)
        with pytest.raises(ThinsliceError) as refused:
            read(tmp_path / f"case{suffix}")
        assert refused.value.exit_code == 3


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("added", [-1, -100, 10, 5000])
def test_voxels_of_another_length_than_declared_are_refused(
    tmp_path: Path, suffix: str, compressed: bool, added: int
) -> None:
    import SimpleITK

    hu = np.random.default_rng(0).integers(-1000, 1000, (6, 20, 20)).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(hu), str(tmp_path / f"case{suffix}"), compressed)
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[:added] if added < 0 else content + bytes(added))
    # Zeros after compressed voxels are no data; a few after plain ones fill a block.
    if added == 10 or (added > 0 and compressed):
        np.testing.assert_array_equal(read(tmp_path / f"case{suffix}").hu, hu)
        return
    with pytest.raises(ThinsliceError) as refused:
        read(tmp_path / f"case{suffix}")
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_voxels_of_every_type_and_order_are_read_as_simpleitk_reads_them(tmp_path: Path, suffix: str) -> None:
    import SimpleITK

    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"):
        values = (np.arange(6 * 5 * 4).reshape(6, 5, 4) % 100).astype(dtype)
        for compressed in (True, False):
            path = tmp_path / f"{dtype}{compressed}{suffix}"
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(path), compressed)
            np.testing.assert_array_equal(read(path).hu, values)
    big = (tmp_path / f"i2False{suffix}").read_bytes()
    plain = (np.arange(6 * 5 * 4).reshape(6, 5, 4) % 100).astype("<i2")
    swapped = big.replace(b"endian: little", b"endian: big").replace(b"OrderMSB = False", b"OrderMSB = True")
    assert swapped != big
    (tmp_path / f"big{suffix}").write_bytes(swapped.replace(plain.tobytes(), plain.astype(">i2").tobytes()))
    np.testing.assert_array_equal(read(tmp_path / f"big{suffix}").hu, plain)
    image = SimpleITK.ReadImage(str(tmp_path / f"big{suffix}"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), plain)


@pytest.mark.parametrize("encoding", ["ascii", "hex"])
def test_rare_encodings_of_nrrd_are_read_by_simpleitk(tmp_path: Path, encoding: str) -> None:
    values = np.arange(24, dtype="<i2").reshape(4, 3, 2)
    body = " ".join(map(str, values.ravel())).encode() if encoding == "ascii" else values.tobytes().hex().encode()
    head = (
        f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 3 4\n"
        f"space directions: (0.7,0,0) (0,0.7,0) (0,0,5)\nkinds: domain domain domain\nendian: little\n"
        f"encoding: {encoding}\nspace origin: (0,0,0)\n\n"
    )
    (tmp_path / "case.nrrd").write_bytes(head.encode() + body)
    np.testing.assert_array_equal(read(tmp_path / "case.nrrd").hu, values)
