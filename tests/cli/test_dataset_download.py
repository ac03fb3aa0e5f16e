"""thinslice dataset download: output and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Run
from support.record_server import DOI, Archive, serve, split_zip


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    with serve(Archive({f"{split}.zip": split_zip(n) for n, split in enumerate(("train", "val"))})) as served:
        monkeypatch.setenv("THINSLICE_DOI_RESOLVER", served.address)
        yield served


def test_fetches_and_recognises_it_the_second_time(archive: Archive, tmp_path: Path, run: Run) -> None:
    outcome = run("dataset", "download", tmp_path, "--doi", DOI, "--split", "val")
    assert outcome.code == 0 and outcome.out == ""
    assert "val: fetched and checked: 2 thin and 2 thick volumes." in outcome.text
    assert "fetching val.zip: 100 %" in outcome.text and "MB/s" in outcome.text and "left" in outcome.text
    assert (tmp_path / "val" / "1mm" / "CT00000001.nii.gz").is_file()
    outcome = run("dataset", "download", tmp_path, "--doi", DOI, "--split", "val")
    assert outcome.code == 0 and "val: already present" in outcome.text


def test_quiet_prints_nothing(archive: Archive, tmp_path: Path, run: Run) -> None:
    outcome = run("dataset", "download", tmp_path, "--record", DOI, "--split", "train", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_exit_codes(archive: Archive, tmp_path: Path, run: Run) -> None:
    assert run("dataset", "download", tmp_path, "--doi", DOI, "--split", "test").code == 2
    assert run("dataset", "download", tmp_path, "--doi", "4242").code == 2
    archive.checksums["val.zip"] = "md5:" + "0" * 32
    outcome = run("dataset", "download", tmp_path, "--doi", DOI, "--split", "val")
    assert outcome.code == 3 and "'val.zip'" in outcome.err and "published checksum" in outcome.text
    assert str(tmp_path) not in outcome.err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine").touch()
    assert run("dataset", "download", tmp_path, "--doi", DOI, "--split", "train").code == 5


def test_help_describes_the_command(run: Run) -> None:
    outcome = run("dataset", "download", "--help")
    assert (
        outcome.code == 0 and "continues where it stopped" in outcome.text and "10.5281/zenodo.17239183" in outcome.text
    )
    assert "RESOLVER" not in outcome.text


def test_a_terminated_run_leaves_what_came_for_the_next(archive: Archive, tmp_path: Path, run: Run) -> None:
    archive.files["train.zip"] = split_zip(0, kilobytes=400)
    release = threading.Event()

    def stop_halfway(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        start, stop = span or (0, len(content))
        half = content[start : (start + stop) // 2]
        handler.reply(206, half, stop - start, **{"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})
        release.wait(600)
        handler.close_connection = True
        return True

    archive.on_file = stop_halfway
    arguments = ["dataset", "download", str(tmp_path), "--doi", DOI, "--split", "train", "--connections", "2"]
    journal = tmp_path / "train.zip.part.json"
    process = subprocess.Popen([sys.executable, "-m", "thinslice", *arguments], env=os.environ.copy())
    try:
        while process.poll() is None and not (journal.is_file() and json.loads(journal.read_text())["done"]):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(1800) == 130
    finally:
        release.set()
    assert journal.is_file()
    archive.on_file = None
    archive.requests.clear()
    assert run(*arguments).code == 0
    assert 0 < archive.served_bytes < len(archive.files["train.zip"])
