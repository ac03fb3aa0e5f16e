"""A writer in a thread of its own: the same file, the same errors, nothing left, bounded memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.files import open_writer, read
from thinslice.io.write_behind import WriteBehind
from thinslice.volume import Provenance

SHAPE = (12, 6, 5)
HU = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


def behind(path: Path, **options: int) -> WriteBehind:
    writer = open_writer(path, Geometry(SHAPE, (1.0, 0.7, 0.7)), Provenance(), hu_range=(-1000, 1000))
    return WriteBehind(writer, **options)


class Slow:
    """A writer that waits until it is released, and records the slabs that it wrote."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.go = threading.Event()
        self.taken: list[int] = []
        self.failure = failure
        self.left_with: BaseException | None = None
        self.entered = self.left = False

    def __enter__(self) -> Slow:
        self.entered = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.left, self.left_with = True, error

    def write(self, hu: np.ndarray) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert self.go.wait(600)
        if self.failure is not None:
            raise self.failure
        self.taken.append(int(hu[0]))


def slab(value: int) -> np.ndarray:
    return np.full(4, value, np.int16)  # 8 bytes


@pytest.mark.parametrize("most_bytes", [1, 200, 1 << 20])
def test_the_file_is_the_one_that_is_written_at_once(tmp_path: Path, most_bytes: int) -> None:
    with behind(tmp_path / "thin.nii.gz", most_bytes=most_bytes) as writer:
        for start in range(0, 12, 3):
            writer.write(HU[start : start + 3])
    np.testing.assert_array_equal(read(tmp_path / "thin.nii.gz", axis=2).hu, HU)
    assert writer.seconds > 0


def test_the_maker_goes_on_while_the_writer_is_busy_but_not_without_bound() -> None:
    slow = Slow()
    done = threading.Event()
    with WriteBehind(slow, most_bytes=16) as writer:
        writer.write(slab(0))
        writer.write(slab(1))  # both wait, and nobody had to

        def third() -> None:
            writer.write(slab(2))
            done.set()

        other = threading.Thread(target=third)
        other.start()
        assert not done.wait(0.2)
        assert slow.taken == []
        slow.go.set()
        assert done.wait(600)
        other.join()
    assert slow.taken == [0, 1, 2]
    assert slow.left and slow.left_with is None


def test_an_error_of_the_writer_reaches_the_maker_and_the_writer() -> None:
    slow = Slow(OutputError("disk"))
    slow.go.set()
    with pytest.raises(OutputError, match="disk"), WriteBehind(slow, most_bytes=8) as writer:
        for value in range(5):
            writer.write(slab(value))
    assert slow.left_with is slow.failure


def test_an_error_of_the_last_slab_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not fit"), behind(tmp_path / "thin.nii") as writer:
        writer.write(HU)
        writer.write(HU)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_an_error_or_an_interrupt_of_the_maker_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), behind(tmp_path / "thin.nii.gz") as writer:
        writer.write(HU[:6])
        raise error
    assert list(tmp_path.iterdir()) == []
    assert not any(thread.name.startswith("write") for thread in threading.enumerate())


def test_what_waits_is_dropped_when_the_maker_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    with pytest.raises(RuntimeError, match="maker"), WriteBehind(slow, most_bytes=1000) as writer:
        shutdown = writer._pool.shutdown

        def drop_then_go_on(*, cancel_futures: bool) -> None:
            shutdown(wait=False, cancel_futures=cancel_futures)
            slow.go.set()
            shutdown()

        monkeypatch.setattr(writer._pool, "shutdown", drop_then_go_on)
        for value in range(5):
            writer.write(slab(value))
        raise RuntimeError("maker")
    assert slow.taken in ([], [0])
    assert isinstance(slow.left_with, RuntimeError)


def test_too_few_slices_are_refused_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Only 6 of 12"), behind(tmp_path / "thin.nii") as writer:
        writer.write(HU[:6])
    assert list(tmp_path.iterdir()) == []
