"""Pull and push: everything arrives once, whatever breaks, and credentials stay secret."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

pytest.importorskip("dicomweb_client")

from support.command_line import Run, run
from support.dicom_factory import assert_no_canary, write_series
from support.dicomweb_peer import DicomwebPeer
from thinslice.errors import UsageError
from thinslice.service.dicomweb import store as storing
from thinslice.service.dicomweb.connection import Credentials, connect, credentials
from thinslice.service.dicomweb.pull import pull
from thinslice.service.dicomweb.search import FoundSeries, find_series, instances

__all__ = ["run"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SLICES = 6
STUDY, SERIES = "1.2.826.1.1", "1.2.826.0.1.1"
SECRET = "a-token-nobody-may-read"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_series(tmp_path / "in", shape=(SLICES, 16, 16), uid=SERIES, study_uid=STUDY)
    return tmp_path / "in"


def filled(folder: Path, **settings: object) -> DicomwebPeer:
    peer = DicomwebPeer(**settings)  # type: ignore[arg-type]
    for path in folder.iterdir():
        peer.objects[pydicom.dcmread(path).SOPInstanceUID] = path.read_bytes()
    return peer


def pixels(folder: Path) -> set[bytes]:
    return {pydicom.dcmread(path).PixelData for path in folder.rglob("*.dcm")}


def test_what_is_pulled_is_what_is_there_and_names_identify_nobody(folder: Path, tmp_path: Path, run: Run) -> None:
    with filled(folder) as peer:
        done = run("pull", peer.url, tmp_path / "out", "--study", STUDY)
        assert done.code == 0 and f"{SLICES} objects fetched, 0 were there before" in done.out
        again = run("pull", peer.url, tmp_path / "out", "--find", "Modality=CT")
        assert f"0 objects fetched, {SLICES} were there before" in again.out
    assert pixels(tmp_path / "out") == pixels(folder)
    for path in (tmp_path / "out").rglob("*"):
        assert_no_canary(path.as_posix())
        assert STUDY not in path.as_posix()


def test_a_pull_goes_on_after_broken_answers(folder: Path, tmp_path: Path) -> None:
    def broken(method: str, path: str, number: int) -> object:
        is_retrieval = path.endswith(SERIES)
        return "cut" if is_retrieval and number == 0 else 503 if is_retrieval and number == 1 else None

    waited: list[float] = []
    with filled(folder, broken=broken) as peer:
        client = connect(peer.url, Credentials())
        summary = pull(client, tmp_path / "out", studies=(STUDY,), filters={}, pause=waited.append)
        assert not summary.failures and summary.fetched == SLICES
        assert pixels(tmp_path / "out") == pixels(folder)
        for path in sorted((tmp_path / "out").rglob("*.dcm"))[:2]:
            path.unlink()
        before = peer.requests.copy()
        assert pull(client, tmp_path / "out", studies=(STUDY,), filters={}).fetched == 2
        singles = "GET /studies/UID/series/UID/instances/UID"
        assert peer.requests[singles] - before[singles] == 2
    assert waited


def test_a_service_that_stays_broken_is_named_and_the_next_run_goes_on(folder: Path, tmp_path: Path, run: Run) -> None:
    healthy: list[bool] = []

    def broken(method: str, path: str, number: int) -> object:
        return 500 if path.endswith("/instances") and not healthy else None

    with filled(folder, broken=broken) as peer:
        summary = pull(
            connect(peer.url, Credentials()), tmp_path / "out", studies=(STUDY,), filters={}, pause=lambda s: None
        )
        assert summary.fetched == 0 and "HTTP 500" in summary.failures[0]
        healthy.append(True)
        assert run("pull", peer.url, tmp_path / "out", "--series", SERIES).code == 0
    assert pixels(tmp_path / "out") == pixels(folder)


@pytest.mark.parametrize("page", [2, 3, 1000])
def test_a_service_that_answers_in_pages_hides_nothing(
    folder: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thinslice.service.dicomweb.search.PAGE", page)
    with filled(folder) as peer:
        client = connect(peer.url, Credentials())
        assert find_series(client, {"Modality": "CT"}) == [FoundSeries(STUDY, SERIES, "CT")]
        assert find_series(client, {"StudyInstanceUID": STUDY}) == [FoundSeries(STUDY, SERIES, "CT")]
        assert len(instances(client, STUDY, SERIES)) == SLICES


def test_a_push_sends_what_is_missing_in_portions(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "PORTION_BYTES", 2 * (folder / "slice0000.dcm").stat().st_size)
    (folder / "notes.txt").write_text("no DICOM")

    def broken(method: str, path: str, number: int) -> object:
        return 503 if method == "POST" and number == 1 else None

    with DicomwebPeer(broken=broken) as peer:
        first = run("push", folder, peer.url)
        assert first.code == 8 and "2 objects stored, 0 were there before; 1 files are no DICOM" in first.out
        second = run("push", folder, peer.url)
        assert second.code == 0 and f"{SLICES - 2} objects stored, 2 were there before" in second.out
        assert len(peer.objects) == SLICES
        assert_no_canary(first.err + second.err)


def test_an_object_that_is_refused_is_no_success(folder: Path, run: Run) -> None:
    with DicomwebPeer() as peer:
        peer.refused = {pydicom.dcmread(folder / "slice0002.dcm").SOPInstanceUID}
        done = run("push", folder, peer.url)
        assert done.code == 8 and "did not take 1 of 6 objects (reason A700" in done.err


def test_a_token_comes_from_a_file_or_the_environment_and_is_never_shown(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    with filled(folder, token=SECRET) as peer:
        refused = run("pull", peer.url, tmp_path / "out", "--study", STUDY)
        assert refused.code == 2 and "refuses the credentials (HTTP 401)" in refused.err
        done = run("pull", peer.url, tmp_path / "out", "--study", STUDY, "--token-file", tmp_path / "token")
        assert done.code == 0
        monkeypatch.setenv("THINSLICE_DICOMWEB_TOKEN", SECRET)
        assert run("pull", peer.url, tmp_path / "out", "--study", STUDY).code == 0
    gone = run("pull", peer.url, tmp_path / "out", "--study", STUDY)
    assert gone.code == 5 and "cannot be reached" in gone.err
    for outcome in (refused, done, gone):
        assert SECRET not in outcome.out + outcome.err
    assert SECRET not in repr(credentials())


def test_credentials_are_refused_where_others_could_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://pacs.example/web", "http://10.1.2.3/web"):
        with pytest.raises(UsageError, match="unencrypted"):
            connect(url, Credentials(token=SECRET))
    with pytest.raises(UsageError, match="holds a password"):
        connect(f"https://user:{SECRET}@pacs.example/web", Credentials())
    with pytest.raises(UsageError, match="begins with https"):
        connect("pacs.example/web", Credentials())
    monkeypatch.setenv("THINSLICE_DICOMWEB_TOKEN", SECRET)
    monkeypatch.setenv("THINSLICE_DICOMWEB_LOGIN", "user:password")
    with pytest.raises(UsageError, match="give one"):
        credentials()
    monkeypatch.delenv("THINSLICE_DICOMWEB_TOKEN")
    assert credentials() == Credentials(login=("user", "password"))
    (tmp_path / "login").write_text("nobody")
    with pytest.raises(UsageError, match="user:password"):
        credentials(login_file=tmp_path / "login")


def test_a_command_that_chooses_nothing_or_finds_nothing(folder: Path, tmp_path: Path, run: Run) -> None:
    with filled(folder) as peer:
        assert run("pull", peer.url, tmp_path / "out").code == 2
        assert run("pull", peer.url, tmp_path / "out", "--find", "StudyDate").code == 2
        assert run("pull", peer.url, tmp_path / "out", "--study", "1.9.9").code == 3
        (tmp_path / "empty").mkdir()
        assert run("push", tmp_path / "empty", peer.url).code == 3
        assert run("push", tmp_path / "nowhere", peer.url).code == 3
