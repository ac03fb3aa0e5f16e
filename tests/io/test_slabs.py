"""Slab by slab: the same file as all at once, in bounded memory, whole or not at all."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinslice.errors import OutputError, OutputExistsError, ResourceError, UsageError
from thinslice.geometry import Geometry
from thinslice.io import gzip_stream, slabs
from thinslice.io.files import open_writer, read, write
from thinslice.io.gzip_stream import DeflateWriter
from thinslice.system import resources
from thinslice.volume import Provenance, Volume

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]
AXES = list(itertools.permutations(range(3)))


def volume(shape=(7, 6, 5), axes=(2, 1, 0), dtype=np.int16, seed=0):
    hu = np.random.default_rng(seed).integers(-1024, 3000, shape).astype(dtype)
    return Volume(hu, Geometry(shape, (5.0, 0.7, 0.6), (-10.0, 20.0, 30.0)), Provenance(file_axes=axes))


def writer(path, of, **changed):
    options = {"dtype": of.hu.dtype, "hu_range": (float(of.hu.min()), float(of.hu.max())), **changed}
    return open_writer(path, of.geometry, of.provenance, **options)


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axes", AXES)
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(0, 7), max_size=5))
def test_slabs_of_any_size_make_the_file_that_one_write_makes(suffix, axes, cuts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slabs")
    whole = volume(axes=axes)
    write(whole, folder / f"whole{suffix}")
    (folder / "in").mkdir()
    with writer(folder / "in" / f"whole{suffix}", whole) as opened:
        edges = [0, *sorted(cuts), 7]
        for start, stop in itertools.pairwise(edges):
            opened.write(whole.hu[start:stop])
    for name in left_in(folder / "in"):
        assert (folder / "in" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha"])
@pytest.mark.parametrize("axes", AXES)
def test_voxels_lie_in_the_order_of_the_file(suffix, axes, tmp_path, monkeypatch):
    pytest.importorskip("SimpleITK")
    monkeypatch.setattr(slabs, "REORDER_BYTES", 64)  # many pieces
    monkeypatch.setattr(gzip_stream, "BLOCK_BYTES", 50)  # many blocks
    whole = volume(axes=axes)
    write(whole, tmp_path / f"case{suffix}")
    import SimpleITK

    stored = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"case{suffix}")))
    # zyx of the file -> (depth, height, width)
    np.testing.assert_array_equal(stored.transpose([2 - axis for axis in axes]), whole.hu)


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mhd"])
def test_memory_does_not_grow_with_depth(axes, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(slabs, "REORDER_BYTES", 1 << 19)
    monkeypatch.setattr(gzip_stream, "BLOCK_BYTES", 1 << 16)

    def peak(depth: int) -> int:
        geometry = Geometry((depth, 128, 128), (1.0, 0.7, 0.7))
        slab = np.zeros((4, 128, 128), np.int16)
        path = tmp_path / f"case{suffix}"
        tracemalloc.start()
        try:
            with open_writer(path, geometry, Provenance(file_axes=axes), hu_range=(0, 0), overwrite=True) as opened:
                for _ in range(depth // 4):
                    opened.write(slab)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(8)
    # 5 and 15 MiB of voxels: by then every buffer has been full.
    assert peak(480) < peak(160) + (1 << 20)


def test_floats_are_rounded_into_16_bits_and_kept_whole_where_these_do_not_do(tmp_path):
    source = volume(dtype=np.float32)
    half = source.hu + np.float32(0.4)
    with writer(tmp_path / "a.nii", source, dtype=np.int16) as opened:
        opened.write(half)
    again = read(tmp_path / "a.nii")
    assert again.hu.dtype == np.int16
    np.testing.assert_array_equal(again.hu, source.hu)

    with writer(tmp_path / "b.nii", source, dtype=np.int16, hu_range=(-1024.0, 40000.0)) as opened:
        opened.write(half + 37000)
    again = read(tmp_path / "b.nii")
    assert again.hu.dtype == np.float32
    np.testing.assert_array_equal(again.hu, half + 37000)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("slab", "words"),
    [
        (np.zeros((2, 6, 4), np.int16), "does not fit"),
        (np.zeros((8, 6, 5), np.int16), "does not fit"),
        (np.full((7, 6, 5), np.nan, np.float32), "not finite"),
        (np.full((7, 6, 5), 40000, np.float32), "beyond the range"),
        (np.zeros((6, 6, 5), np.int16), "Only 6 of 7"),
    ],
)
def test_what_does_not_belong_is_refused_and_nothing_is_left(suffix, slab, words, tmp_path):
    with (
        pytest.raises(OutputError, match=words),
        writer(tmp_path / f"case{suffix}", volume(), hu_range=(-1024, 3000)) as opened,
    ):
        opened.write(slab)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_an_interrupt_midway_leaves_nothing(suffix, axes, error, tmp_path):
    source = volume(axes=axes)
    with pytest.raises(error), writer(tmp_path / f"case{suffix}", source) as opened:
        opened.write(source.hu[:3])
        raise error
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_exists_stays_as_it_was_unless_asked(suffix, tmp_path):
    path = tmp_path / f"case{suffix}"
    write(volume(seed=1), path)
    before = {name: (tmp_path / name).read_bytes() for name in left_in(tmp_path)}
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        write(volume(seed=2), path)
    with pytest.raises(RuntimeError), writer(path, volume(seed=2), overwrite=True) as opened:
        opened.write(volume(seed=2).hu[:3])
        raise RuntimeError
    assert {name: (tmp_path / name).read_bytes() for name in left_in(tmp_path)} == before
    write(volume(seed=2), path, overwrite=True)
    np.testing.assert_array_equal(read(path).hu, volume(seed=2).hu)
    assert len(left_in(tmp_path)) == len(before)
    assert suffix == ".mhd" or left_in(tmp_path) == sorted(before)


def test_a_raw_file_that_no_header_names_is_left_alone(tmp_path):
    (tmp_path / "case.raw").write_bytes(b"precious")
    write(volume(), tmp_path / "case.mhd")
    write(volume(seed=2), tmp_path / "case.mhd", overwrite=True)
    assert (tmp_path / "case.raw").read_bytes() == b"precious"
    assert len(left_in(tmp_path)) == 3


def test_a_header_that_somebody_else_writes_meanwhile_leaves_no_raw_file_behind(tmp_path):
    with pytest.raises(OutputExistsError), writer(tmp_path / "case.mhd", volume()) as opened:
        opened.write(volume().hu)
        (tmp_path / "case.mhd").write_bytes(b"theirs")
    assert left_in(tmp_path) == ["case.mhd"]
    assert (tmp_path / "case.mhd").read_bytes() == b"theirs"


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write(volume(), tmp_path / "absent" / "case.nii")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="read-only"):
            write(volume(), tmp_path / "case.nii")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1)])
def test_a_disk_too_small_is_refused_before_anything_is_written(suffix, axes, tmp_path, monkeypatch):
    class Usage:
        free = 100

    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ResourceError, match="free some space"):
        write(volume(axes=axes), tmp_path / f"case{suffix}")
    assert left_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_midway_leaves_nothing(suffix, tmp_path, monkeypatch):
    """Every write to /dev/full ends with ENOSPC."""
    opened_plain = Path.open

    def full(self, mode="r", *rest, **options):
        return (
            opened_plain(Path("/dev/full"), mode, buffering=0)
            if mode == "wb"
            else opened_plain(self, mode, *rest, **options)
        )

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ResourceError, match="disk is full"):
        write(volume(), tmp_path / f"case{suffix}")
    monkeypatch.undo()
    assert left_in(tmp_path) == []


KILLED = """
import sys, numpy as np
from thinslice.geometry import Geometry
from thinslice.io.files import open_writer
from thinslice.volume import Provenance
geometry = Geometry((400, 64, 64), (1.0, 0.7, 0.7))
with open_writer(sys.argv[1], geometry, Provenance(file_axes=eval(sys.argv[2])), hu_range=(0, 0)) as writer:
    for _ in range(399):
        writer.write(np.zeros((1, 64, 64), np.int16))
    print("midway", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("axes", ["(2, 1, 0)", "(0, 2, 1)"])
def test_a_killed_run_leaves_no_output_and_the_next_one_cleans_up(axes, tmp_path):
    path = tmp_path / "case.nii.gz"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), axes], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"midway\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not path.exists()
    assert not [name for name in left_in(tmp_path) if not name.startswith(".")]
    write(volume(), path)
    assert left_in(tmp_path) == ["case.nii.gz"]


def test_dicom_from_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no patient.*\.nii\.gz"):
        write(volume(), tmp_path / "folder")
    assert left_in(tmp_path) == []


def test_a_writer_outside_its_with_block_says_so(tmp_path):
    opened = writer(tmp_path / "case.nii", volume())
    with pytest.raises(OutputError, match="with block"):
        opened.write(volume().hu)


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.binary(max_size=300), max_size=20), block=st.integers(1, 100), threads=st.integers(1, 3))
def test_the_gzip_of_any_pieces_is_their_sum_whatever_the_threads(pieces, block, threads):
    import gzip
    import io

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip_stream, "BLOCK_BYTES", block)
        results = []
        for count, parts in ((threads, pieces), (1, [b"".join(pieces)])):
            sink = io.BytesIO()
            with DeflateWriter(sink, threads=count) as stream:
                for part in parts:
                    stream.write(part)
            results.append(sink.getvalue())
    assert gzip.decompress(results[0]) == b"".join(pieces)
    assert results[0] == results[1]


def test_space_is_asked_for_at_the_nearest_folder_that_exists(tmp_path):
    resources.require_disk(tmp_path / "not" / "yet" / "there.nii", 1)
    with pytest.raises(ResourceError, match=r"there\.nii"):
        resources.require_disk(tmp_path / "not" / "yet" / "there.nii", 1 << 62)


def test_memory_is_asked_for_only_where_the_system_tells(monkeypatch):
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: None)
    resources.require_memory(1 << 62, "to test")
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 1 << 30)
    resources.require_memory(1 << 20, "to test")
    with pytest.raises(ResourceError, match="to test"):
        resources.require_memory(1 << 30, "to test")


def test_many_slices_need_nifti_2(tmp_path):
    tall = Volume(np.zeros((33000, 1, 1), np.int16), Geometry((33000, 1, 1), (1.0, 0.5, 0.5)))
    write(tall, tmp_path / "tall.nii")
    assert isinstance(nibabel.load(tmp_path / "tall.nii"), nibabel.Nifti2Image)
    assert read(tmp_path / "tall.nii").geometry.shape == (33000, 1, 1)
