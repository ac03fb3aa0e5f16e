"""The cache holds the voxels of the files, is built once, and is rebuilt when it or its source changes."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dataset_factory import pair_hu, released_set, save_unit, true_volumes
from thinslice.data import cache, manifest
from thinslice.data.cache import CachedPair, cache_path, cached_pairs
from thinslice.data.manifest import Case, open_dataset
from thinslice.errors import GeometryError, OutputError, ResourceError
from thinslice.system import user_cache


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    return open_dataset(released_set(tmp_path / "set", {"train": 3})).cases


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that were read from their files."""
    names: list[str] = []

    def counting(case: Case) -> manifest.Pair:
        names.append(case.case_id)
        return manifest.read_pair(case)

    monkeypatch.setattr(cache, "read_pair", counting)
    monkeypatch.setattr(cache, "_checked", {})
    return names


def same(found: CachedPair, number: int) -> bool:
    thick, thin = pair_hu(seed=number)
    return np.array_equal(found.thick, thick) and np.array_equal(found.thin, thin)


def test_cached_pairs_hold_what_the_files_hold(cases: tuple[Case, ...], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = cached_pairs(cases[::-1], tmp_path / "a" / "b", progress=lambda done, total: seen.append((done, total)))
    assert [pair.case_id for pair in found] == ["CT00000002", "CT00000001", "CT00000000"]
    assert all(same(pair, number) for pair, number in zip(found, (2, 1, 0), strict=True))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for pair in found:
        assert isinstance(pair.thin, np.memmap)
        assert (pair.thick.dtype, pair.factor, pair.relative_thickness) == (np.int16, 5, 1.0)
        with pytest.raises(ValueError, match="read-only"):
            pair.thin[0, 0, 0] = 1


def test_the_profile_of_overlapping_slices_is_known(tmp_path: Path) -> None:
    thick, thin = true_volumes(2)
    thinslice.write(thin, tmp_path / "thin.nii.gz")
    thinslice.write(thick, tmp_path / "thick.nii.gz")
    case = Case("a", "train", tmp_path / "thin.nii.gz", tmp_path / "thick.nii.gz", "P", "true")
    assert cached_pairs([case], tmp_path / "cache")[0].relative_thickness == 1.0  # NIfTI does not tell it
    overlapping = thinslice.Volume(thick.hu, thinslice.Geometry(thick.hu.shape, (5.0, 0.7, 0.7), thickness_mm=7.5))
    pair = manifest.Pair("b", overlapping, thin, 5)
    cache._write(pair, "x", "place", tmp_path / "b")
    assert cache._open(tmp_path / "b", "x").relative_thickness == 1.5  # type: ignore[union-attr]


def test_values_that_are_no_whole_hu_are_kept_as_floats(tmp_path: Path) -> None:
    thick, thin = pair_hu()
    save_unit(thick + 0.25, tmp_path / "set/train/5mm/A.nii.gz")
    save_unit(thin, tmp_path / "set/train/1mm/A.nii.gz")
    pair = cached_pairs(open_dataset(tmp_path / "set").cases, tmp_path / "cache")[0]
    assert (pair.thick.dtype, pair.thin.dtype) == (np.float32, np.int16)
    np.testing.assert_allclose(pair.thick, thick + 0.25, atol=1e-3)


def test_files_are_built_once(cases: tuple[Case, ...], tmp_path: Path, reads: list[str]) -> None:
    cached_pairs(cases, tmp_path / "cache")
    assert reads == [case.case_id for case in cases]
    cached_pairs(cases, tmp_path / "cache")
    cache._checked.clear()
    assert all(same(pair, n) for n, pair in enumerate(cached_pairs(cases, tmp_path / "cache")))
    assert len(reads) == 3


def test_another_program_can_read_the_files(cases: tuple[Case, ...], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    pair = cached_pairs(cases[:1], tmp_path / "cache")[0]
    np.testing.assert_array_equal(load_file(pair.path)["thin"], pair.thin)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def flip_a_fact(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"factor": "5"', b'"factor": "4"'))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def cut_the_header(path: Path) -> None:
    os.truncate(path, 50)


@pytest.mark.parametrize(
    "spoil",
    [
        flip_a_bit,
        flip_a_fact,
        truncate,
        lengthen,
        cut_the_header,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 4096),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_file_is_built_again(cases: tuple[Case, ...], tmp_path: Path, reads: list[str], spoil) -> None:
    path = cached_pairs(cases[:1], tmp_path / "cache")[0].path
    before = path.read_bytes()
    spoil(path)
    cache._checked.clear()
    assert same(cached_pairs(cases[:1], tmp_path / "cache")[0], 0)
    assert len(reads) == 2
    assert path.read_bytes() == before


def test_damage_is_noticed_in_the_process_that_checked_before(
    cases: tuple[Case, ...], tmp_path: Path, reads: list[str]
) -> None:
    path = cached_pairs(cases[:1], tmp_path / "cache")[0].path
    flip_a_bit(path)
    assert same(cached_pairs(cases[:1], tmp_path / "cache")[0], 0)
    assert len(reads) == 2


def test_a_changed_source_is_read_again_and_leaves_no_second_file(
    cases: tuple[Case, ...], tmp_path: Path, reads: list[str]
) -> None:
    cached_pairs(cases, tmp_path / "cache")
    thick, thin = pair_hu(seed=42)
    assert cases[1].thick is not None
    save_unit(thick, cases[1].thick)
    save_unit(thin, cases[1].thin)
    assert same(cached_pairs(cases, tmp_path / "cache")[1], 42)
    assert reads[3:] == ["CT00000001"]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_moved_data_set_finds_its_files_again(cases: tuple[Case, ...], tmp_path: Path, reads: list[str]) -> None:
    before = [pair.digest for pair in cached_pairs(cases, tmp_path / "cache")]
    root = cases[0].thin.parents[2]
    moved = open_dataset(root.rename(tmp_path / "moved"))
    assert [pair.digest for pair in cached_pairs(moved.cases, tmp_path / "cache")] == before
    assert len(reads) == 3 and len(list((tmp_path / "cache").iterdir())) == 3


def test_files_that_nobody_has_used_for_long_go(cases: tuple[Case, ...], tmp_path: Path) -> None:
    first, second = (pair.path for pair in cached_pairs(cases[:2], tmp_path / "cache"))
    long_ago = first.stat().st_mtime - 2 * cache.KEPT_DAYS * 86400
    os.utime(first, (long_ago, first.stat().st_mtime))
    third = cached_pairs(cases[2:], tmp_path / "cache")[0].path
    assert set((tmp_path / "cache").iterdir()) == {second, third}


def test_nothing_kept_is_a_folder_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path))
    cache.pairs_folder.cache_clear()
    assert cache.pairs_folder() == tmp_path / "pairs"
    monkeypatch.setenv(user_cache.VARIABLE, "")
    cache.pairs_folder.cache_clear()
    assert cache.pairs_folder().is_dir() and cache.pairs_folder() == cache.pairs_folder()
    cache.pairs_folder.cache_clear()


def test_a_misaligned_pair_is_never_cached(cases: tuple[Case, ...], tmp_path: Path) -> None:
    save_unit(np.roll(pair_hu(seed=1)[1], 2, axis=0), cases[1].thin)
    with pytest.raises(GeometryError, match="Case CT00000001"):
        cached_pairs(cases, tmp_path / "cache")
    assert [p.name[:10] for p in (tmp_path / "cache").iterdir()] == ["CT00000000"]


def test_a_hostile_name_stays_in_the_cache(tmp_path: Path) -> None:
    case = Case("../../x/..", "train", tmp_path / "a", tmp_path / "b", "P", "released")
    assert cache_path(case, tmp_path / "cache").parent == tmp_path / "cache"


def test_two_data_sets_with_cases_of_one_name_do_not_meet(tmp_path: Path) -> None:
    first = released_set(tmp_path / "first", {"train": 1})
    second = shutil.copytree(first, tmp_path / "second")
    save_unit(pair_hu(seed=9)[0], second / "train/5mm/CT00000000.nii.gz")
    save_unit(pair_hu(seed=9)[1], second / "train/1mm/CT00000000.nii.gz")
    pairs = [cached_pairs(open_dataset(root).cases, tmp_path / "cache")[0] for root in (first, second, first)]
    assert [same(p, n) for p, n in zip(pairs, (0, 9, 0), strict=True)] == [True] * 3


def test_a_pair_travels_to_another_process_without_its_voxels(cases: tuple[Case, ...], tmp_path: Path) -> None:
    pair = cached_pairs(cases[:1], tmp_path / "cache")[0]
    packed = pickle.dumps(pair)
    assert len(packed) < 500
    assert same(pickle.loads(packed), 0)  # noqa: S301
    pair.path.unlink()
    with pytest.raises(OutputError, match="missing or damaged"):
        pickle.loads(packed)  # noqa: S301


def test_a_full_disk_is_a_shortage_and_leaves_nothing(
    cases: tuple[Case, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    with pytest.raises(ResourceError, match="are free"):
        cached_pairs(cases, tmp_path / "cache")
    monkeypatch.undo()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="disk is full"):
        cached_pairs(cases, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_place_that_cannot_hold_a_cache_is_refused(cases: tuple[Case, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError):
        cached_pairs(cases, tmp_path / "file")


PROGRAM = """
import sys, time
from pathlib import Path
from thinslice.data import cache
from thinslice.data.manifest import open_dataset, read_pair

def slowly(case):
    print("reads", case.case_id, flush=True)
    time.sleep(float(sys.argv[3]))
    return read_pair(case)

cache.read_pair = slowly
pairs = cache.cached_pairs(open_dataset(Path(sys.argv[1])).cases, Path(sys.argv[2]))
print("sums", *(int(pair.thin.sum(dtype="i8")) for pair in pairs), flush=True)
"""


def builder(cases: tuple[Case, ...], folder: Path, pause_s: float) -> subprocess.Popen[str]:
    root = cases[0].thin.parents[2]
    command = [sys.executable, "-c", PROGRAM, str(root), str(folder), str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_processes_that_build_at_once_share_the_work(cases: tuple[Case, ...], tmp_path: Path) -> None:
    both = [builder(cases, tmp_path / "cache", 0.3) for _ in range(3)]
    printed = [process.communicate(timeout=1800)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    sums = {lines[-1] for lines in printed}
    assert sums == {"sums " + " ".join(str(int(pair_hu(seed=n)[1].sum())) for n in range(3))}
    # Each case was read once in all.
    assert sorted(line for lines in printed for line in lines[:-1]) == [f"reads CT0000000{n}" for n in range(3)]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_builder_that_was_killed_blocks_nobody(
    cases: tuple[Case, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = builder(cases, tmp_path / "cache", 60.0)
    assert killed.stdout is not None
    assert killed.stdout.readline().startswith("reads")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    monkeypatch.setattr(cache, "_WAIT_S", None)  # to wait for a lock would be an error
    assert all(same(pair, n) for n, pair in enumerate(cached_pairs(cases, tmp_path / "cache")))
    assert len(list((tmp_path / "cache").iterdir())) == 3
