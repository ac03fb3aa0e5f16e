"""A node as a whole, in a process of its own: thick series in, thin series out, whatever breaks in between."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.dataset import FileDataset

pytest.importorskip("pynetdicom")
pytest.importorskip("dicomweb_client")

from support.command_line import Run, run
from support.dicom_factory import assert_no_canary, write_series
from support.noded import Archive, Node, noded, send

__all__ = ["run"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SLICES = 4
THIN = (SLICES - 1) * 5 + 1

RULES = """
[[rule]]
name = "no-heads"
take = false
[rule.when]
body_part = "HEAD*"

[[rule]]
name = "from-the-scanner"
[rule.when]
calling_ae = "CALLER"
station = "CANARY*"
description = "*series*"
[rule.run]
model = "linear"
"""


def study(folder: Path, number: int, **changes: object) -> Path:
    """A series of a study of its own."""
    write_series(
        folder / f"study{number}", shape=(SLICES, 16, 16), uid=f"1.2.826.0.1.{number}", study_uid=f"1.2.826.1.{number}",
        seed=number, **changes,
    )  # fmt: skip
    return folder / f"study{number}"


def part_of(body_part: str):
    def edit(dataset: FileDataset, index: int) -> None:
        dataset.BodyPartExamined = body_part

    return edit


def thin_series(archive: Archive) -> dict[str, int]:
    """Number of different objects of each series that an archive has."""
    found: dict[str, int] = {}
    for series, _ in archive.objects:
        found[series] = found.get(series, 0) + 1
    return found


def test_a_thick_series_comes_back_thin_and_nothing_tells_whose_it_is(tmp_path: Path, run: Run) -> None:
    """And rules choose, a broken series is set aside, the same again is no work, and a derived one is left alone."""
    with Archive(commitment="same") as archive, noded(tmp_path, [archive.port], rules=RULES) as node:
        broken = study(tmp_path, 2, missing=[1])
        folders = [study(tmp_path, 1), broken, study(tmp_path, 3, edit=part_of("HEAD"))]
        for folder in folders:
            assert set(send(node.port, folder)) == {0}
        (sent,) = node.wait(r"send:archive0 .*state=done")
        assert f"{THIN} objects, commitment: kept" in sent
        node.wait(r"examine .*state=done", times=3)
        assert sorted(thin_series(archive).values()) == [THIN]
        ours = [pydicom.dcmread(path) for path in sorted((node.data / "results").rglob("*.dcm"))]
        assert {dataset.StudyInstanceUID for dataset in ours} == {"1.2.826.1.1"}

        # The same series again, and our own series as an archive that forwards everything sends it back.
        assert set(send(node.port, folders[0])) == {0}
        (result,) = (node.data / "results").glob("*/dicom")
        assert set(send(node.port, result)) == {0}
        node.wait("study-complete", times=4)
        node.wait(r"examine .*state=done", times=4)
        assert len(list((node.data / "results").iterdir())) == 1
        assert set(archive.times.values()) == {1}

        page = requests.get(f"http://127.0.0.1:{node.status_port}/", timeout=60).text
        assert "left out by the rules" in page and "made by thinslice" in page and "missing" in page
        figures = node.metrics()
        assert figures['thinslice_jobs{kind="send:archive0",state="done"}'] == 1
        assert figures['thinslice_objects_total{outcome="received"}'] == 3 * SLICES - 1 + THIN
        assert figures['thinslice_objects_total{outcome="repeated"}'] == SLICES
        for text in (page, *node.log):
            assert_no_canary(text)
        stranger = requests.get(f"http://127.0.0.1:{node.status_port}/", headers={"Host": "pacs.example"}, timeout=60)
        assert stranger.status_code == 421
        other = run("node", str(tmp_path / "node.toml"))
        assert other.code == 5 and "Another node uses the data folder" in other.err
        assert node.stop() == 0


@pytest.mark.heavy
def test_a_node_that_is_killed_at_every_stage_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with Archive() as archive:
        port = archive.port
    # Nobody takes the series yet, so that they stay in the outbox.
    folders = [study(tmp_path, number) for number in (1, 2)]
    with noded(tmp_path, [port]) as node:
        assert set(send(node.port, folders[0])) == {0}
        node.kill()  # received, and the study is not complete
        node.start()
        assert set(send(node.port, folders[1])) == {0}
        node.wait(r"examine .*state=done")
        node.kill()  # while series are upscaled
        node.start()
        node.wait(r"upscale .*state=done", times=1)
        node.wait(r"send:archive0 .*cannot be reached")
        node.kill()  # with a full outbox
        with Archive(port=port, answer=lambda number: -1 if number == 3 else 0) as archive:
            node.start()
            node.wait(r"send:archive0 .*state=done", times=2)
            assert sorted(thin_series(archive).values()) == [THIN, THIN]
            assert set(archive.times.values()) == {1}
        assert len(list((node.data / "results").iterdir())) == 2
        assert not list((node.data / "arriving").iterdir())


@pytest.mark.heavy
def test_a_worker_that_dies_alone_is_replaced(tmp_path: Path) -> None:
    with Archive() as archive, noded(tmp_path, [archive.port]) as node:
        for place in ("examine-1", "upscale-1", "send-archive0"):
            os.kill(worker_of(node, place), signal.SIGKILL)
        assert set(send(node.port, study(tmp_path, 1))) == {0}
        node.wait(r"send:archive0 .*state=done")
        assert list(thin_series(archive).values()) == [THIN]


def worker_of(node: Node, place: str) -> int:
    """Process number of a worker; the log of a node that is ready tells nothing of workers, so ask until it runs."""
    import threading

    pause = threading.Event()
    for _ in range(600):
        try:
            return node.worker(place)
        except LookupError:
            pause.wait(0.05)
    raise LookupError(place)


def test_settings_can_be_checked_without_a_start(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "node.toml"
    path.write_text('data = "data"\nhost = "127.0.0.1"\n[[caller]]\nae_title = "CT1"\n')
    checked = run("node", str(path), "--check")
    assert checked.code == 0 and "callers: CT1" in checked.out
    assert not (tmp_path / "data").exists()
    path.write_text("data = 1\n")
    assert run("node", str(path)).code == 2
