"""Tests among real peers; `test_peers.py` runs them in a network namespace in which only loopback exists."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import FileDataset

from support.command_line import Run, run
from support.dicom_factory import write_series
from support.noded import RULES, Node, noded, send
from support.orthanc import DICOM_PORT, LOGIN, TITLE, Orthanc

__all__ = ["run"]

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

NODE_PORT = 21112
SLICES, THIN = 4, 16

DEFAULT = """
[[rule]]
name = "default-network"
"""


def with_orthanc(folder: Path, **settings: Any) -> Node:
    """A node that takes series from Orthanc and sends them back to it."""
    peer = (
        f'[[caller]]\nae_title = "{TITLE}"\n[[target]]\nname = "orthanc"\nae_title = "{TITLE}"\n'
        f'host = "127.0.0.1"\nport = {DICOM_PORT}\n'
    )
    return noded(folder, more=peer, port=NODE_PORT, **settings)  # type: ignore[return-value]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "orthanc", {"thin": ("THINSLICE", NODE_PORT)}) as made:
        yield made


def dcmtk(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def errors_of(path: Path) -> set[str]:
    """What a validator of DICOM objects takes for errors."""
    return {line for line in dcmtk("dciodvfy", path).stderr.splitlines() if line.startswith("Error")}


def study(folder: Path, number: int, **changes: Any) -> Path:
    write_series(
        folder / f"study{number}",
        **{"shape": (SLICES, 16, 16), **changes},
        uid=f"1.2.826.0.1.{number}",
        study_uid=f"1.2.826.1.{number}",
        seed=number,
    )
    return folder / f"study{number}"


def sizes(orthanc: Orthanc) -> dict[str, list[int]]:
    """Number of instances of each series, by study."""
    found: dict[str, list[int]] = {}
    for series in orthanc.series():
        found.setdefault(series["ParentStudy"], []).append(len(series["Instances"]))
    return {name: sorted(numbers) for name, numbers in found.items()}


def test_orthanc_sends_a_real_series_and_finds_the_thin_one_in_its_study(
    orthanc: Orthanc, tmp_path: Path, shared_dicom: Callable[[str], Path]
) -> None:
    source = shared_dicom("lung_dx_A0001_5mm")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    files.sort(key=lambda path: float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]))
    orthanc.upload(files[:24])
    (study_id,) = orthanc.ask("/studies")
    with with_orthanc(tmp_path, rules=DEFAULT) as node:
        orthanc.ask("/modalities/thin/echo", {})
        done = orthanc.send("thin", [study_id])
        assert (done["InstancesCount"], done["FailedInstancesCount"]) == (24, 0)
        (sent,) = node.wait(r"send:orthanc .*state=done", within_s=550)
        assert "116 objects, commitment: kept" in sent
        assert sizes(orthanc) == {study_id: [24, 116]}
        thin = sorted((node.data / "results").rglob("thin_*.dcm"))
        for path in (thin[0], thin[57]):
            assert errors_of(path) <= errors_of(files[0])
    query = ("-S", "-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID", "-k", "SeriesDescription")
    uid = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    found = dcmtk("findscu", *query, "-k", f"StudyInstanceUID={uid}", "-aec", TITLE, "127.0.0.1", DICOM_PORT)
    assert "not for diagnosis" in found.stdout + found.stderr


def test_thirty_studies_at_once_two_broken_and_twenty_kills(orthanc: Orthanc, tmp_path: Path) -> None:
    def cut(dataset: FileDataset, index: int) -> None:
        if index == 1 and "PixelData" in dataset:
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

    broken = {7: {"missing": [1]}, 19: {"edit": cut, "transfer_syntax": "explicit"}}
    folders = [study(tmp_path / "in", number, **broken.get(number, {})) for number in range(30)]
    ended = threading.Event()
    with with_orthanc(tmp_path, settings="workers = 2\n") as node:

        def sender(folder: Path) -> int:
            """Send a study until every object was answered with success; returns the number of attempts."""
            for attempt in range(1, 1000):
                if ended.is_set():
                    break
                try:
                    if set(send(NODE_PORT, folder)) == {0}:
                        return attempt
                except (AssertionError, OSError, RuntimeError, ValueError):
                    pass
                ended.wait(1.0)
            raise AssertionError(folder.name)

        try:
            with ThreadPoolExecutor(8) as pool:
                attempts = [pool.submit(sender, folder) for folder in folders]
                for kill in range(20):
                    node.more(1 + 7 * kill % 11, within_s=20)
                    node.kill()
                    node.start()
                again = sum(attempt.result() > 1 for attempt in attempts)
            count = 'thinslice_jobs{kind="send:orthanc",state="done"}'
            node.wait_until(lambda: node.metrics()[count] >= 28, within_s=900)
            node.wait_until(lambda: node.metrics()['thinslice_jobs{kind="examine",state="queued"}'] == 0)
        finally:
            ended.set()
        print(f"{again} of 30 studies were sent more than once")
        found = orthanc.series()
        assert sorted(len(series["Instances"]) for series in found) == [THIN] * 28
        assert len({series["ParentStudy"] for series in found}) == 28
        assert len(list((node.data / "results").iterdir())) == 28
        assert not list((node.data / "arriving").iterdir())
        numbers = node.metrics()
        assert numbers['thinslice_jobs{kind="upscale",state="failed"}'] <= 1
        assert numbers['thinslice_jobs{kind="send:orthanc",state="failed"}'] == 0


def test_dcmtk_agrees_with_every_answer(tmp_path: Path, shared_dicom: Callable[[str], Path]) -> None:
    (tmp_path / "scp").mkdir()
    taking = ["storescp", "-aet", "ARCHIVE0", "-od", str(tmp_path / "scp"), "21113"]
    archive = subprocess.Popen(taking, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with noded(tmp_path, [21113], port=NODE_PORT) as node:
            asked = ("-aet", "CALLER", "-aec", "THINSLICE", "127.0.0.1", NODE_PORT)
            assert dcmtk("echoscu", *asked).returncode == 0
            assert dcmtk("echoscu", "-aet", "STRANGER", *asked[2:]).returncode != 0
            assert dcmtk("echoscu", "-aet", "CALLER", "-aec", "OTHER", *asked[4:]).returncode != 0
            count = 0
            for name, option in (
                ("ge_jpeg_lossless_1.25mm", "-xs"),
                ("ge_bigendian", "-xb"),
                ("ge_ct3slice_1.25_at_1.0", "-xe"),
            ):
                folder = shared_dicom(name)
                sent = dcmtk("storescu", option, "+sd", "+r", *asked, folder)
                assert sent.returncode == 0, (name, sent.stderr)
                kept = list((node.data / "incoming").rglob("*.dcm"))
                assert len(kept) > count
                count = len(kept)
            tested = dcmtk("dcmftest", *(node.data / "incoming").rglob("*.dcm"))
            assert all(line.startswith("yes:") for line in tested.stdout.splitlines())
            for number, (syntax, option) in enumerate((("jpeg_2000", "-xv"), ("rle", "-xr"), ("deflated", "-xd")), 2):
                folder = study(tmp_path, number, shape=(3, 32, 32), transfer_syntax=syntax)
                assert dcmtk("storescu", option, "+sd", *asked, folder).returncode == 0
                count += 3
            assert len(list((node.data / "incoming").rglob("*.dcm"))) == count
            thick = study(tmp_path, 1)
            assert dcmtk("storescu", "+sd", *asked, thick).returncode == 0
            # Three of another depth, and this one; what else was sent is real and may be upscaled too.
            node.wait_until(lambda: node.metrics()['thinslice_jobs{kind="send:archive0",state="done"}'] >= 4)
            node.wait_until(lambda: not any(value for name, value in node.metrics().items() if "queued" in name))
            thin = [pydicom.dcmread(path) for path in (tmp_path / "scp").iterdir()]
            assert len([one for one in thin if one.StudyInstanceUID == "1.2.826.1.1"]) == THIN
            for path in (node.data / "results").rglob("thin_0001.dcm"):
                if pydicom.dcmread(path).StudyInstanceUID.startswith("1.2.826.1."):
                    assert errors_of(path) <= errors_of(thick / "slice0000.dcm")
    finally:
        archive.terminate()
        archive.wait()


def test_pull_and_push_with_orthanc_go_on_where_they_were(
    orthanc: Orthanc, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path, 1, shape=(12, 32, 32))
    monkeypatch.setenv("THINSLICE_DICOMWEB_LOGIN", "radiology:wrong")
    refused = run("push", folder, orthanc.web)
    assert refused.code == 2 and "refuses the credentials" in refused.err
    monkeypatch.setenv("THINSLICE_DICOMWEB_LOGIN", ":".join(LOGIN))
    half = tmp_path / "half"
    half.mkdir()
    for path in sorted(folder.iterdir())[:5]:
        (half / path.name).write_bytes(path.read_bytes())
    assert "5 objects stored, 0 were there" in run("push", half, orthanc.web).out
    assert "7 objects stored, 5 were there" in run("push", folder, orthanc.web).out
    assert "0 objects stored, 12 were there" in run("push", folder, orthanc.web).out
    fetched = run("pull", orthanc.web, tmp_path / "out", "--study", "1.2.826.1.1")
    assert fetched.code == 0 and "12 objects fetched, 0 were there" in fetched.out
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    for path in files[:4]:
        path.unlink()
    again = run("pull", orthanc.web, tmp_path / "out", "--find", "PatientID=CANARY*", "--find", "StudyDate=19991231")
    assert "4 objects fetched, 8 were there" in again.out
    pixels = {pydicom.dcmread(path).PixelData for path in folder.iterdir()}
    assert {pydicom.dcmread(path).PixelData for path in (tmp_path / "out").rglob("*.dcm")} == pixels
    assert run("pull", orthanc.web, tmp_path / "out", "--study", "1.2.3").code == 3


def test_a_node_sends_by_stow(orthanc: Orthanc, tmp_path: Path) -> None:
    (tmp_path / "login").write_text(":".join(LOGIN))
    target = f'[[target]]\nname = "web"\nurl = "{orthanc.web}"\nlogin_file = "login"\n'
    with noded(tmp_path, more=target, port=NODE_PORT, rules=RULES) as node:
        assert set(send(NODE_PORT, study(tmp_path, 1))) == {0}
        node.wait(r"send:web .*state=done")
        assert list(sizes(orthanc).values()) == [[THIN]]
