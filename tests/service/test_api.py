"""A real server on loopback: a series goes in, and what comes out equals the command line bit for bit."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import Run
from support.dicom_factory import assert_no_canary
from support.open_viewer import held
from support.served import EPOCH, Served
from thinslice.errors import InputError, ModelError, UsageError
from thinslice.service.client import Client, ServerAwayError
from thinslice.service.schemas import JobView, SourceView


@pytest.fixture(scope="module")
def client(server: Served) -> Client:
    return server.client()


@pytest.fixture(scope="module")
def source(client: Client, thick_dicom: Path) -> SourceView:
    return client.upload([thick_dicom])


@pytest.fixture(scope="module")
def done(client: Client, source: SourceView) -> JobView:
    """A job with everything that the service makes."""
    return client.wait(client.submit(source, model="linear", uncertainty="ensemble"))


def test_the_series_are_those_that_inspect_lists(source: SourceView, thick_dicom: Path) -> None:
    listed = [series.to_json() for series in thinslice.inspect(thick_dicom)]
    assert json.loads(json.dumps(listed)) == json.loads(json.dumps(source.series))
    assert_no_canary(source)


def test_results_equal_the_command_line_bit_for_bit(
    done: JobView, client: Client, thick_dicom: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    options = ("--model", "linear", "--threads", "1", "--uncertainty-by", "ensemble")
    beside = tmp_path / "deviation.nii.gz"
    for output in (tmp_path / "thin", tmp_path / "thin.nii.gz"):
        outcome = run("upscale", thick_dicom, output, *options, "--uncertainty", beside, "--overwrite")
        assert outcome.code == 0, outcome.err
    with zipfile.ZipFile(io.BytesIO(b"".join(client.pieces(done, "dicom.zip")))) as packed:
        assert packed.testzip() is None
        fetched = {Path(name).name: packed.read(name) for name in packed.namelist()}
    assert fetched == {path.name: path.read_bytes() for path in (tmp_path / "thin").iterdir()}
    for name, expected in (("thin.nii.gz", tmp_path / "thin.nii.gz"), ("uncertainty.nii.gz", beside)):
        client.download(done, name, tmp_path / f"fetched-{name}")
        assert (tmp_path / f"fetched-{name}").read_bytes() == expected.read_bytes()


def test_reports_hold_the_notice_and_no_identity(done: JobView, client: Client) -> None:
    assert done.files == (
        *("dicom.zip", "thin.nii.gz", "uncertainty.nii.gz", "report.html", "report.json", "preview.png", "view.html"),
    )
    page = b"".join(client.pieces(done, "report.html")).decode()
    report = json.loads(b"".join(client.pieces(done, "report.json")))
    assert report["notice"] in page and report["model"]["name"] == "linear"
    assert b"".join(client.pieces(done, "preview.png")).startswith(b"\x89PNG")
    for text in (page, report, done, client.jobs(), client.about()):
        assert_no_canary(text)


def test_the_file_to_share_holds_both_volumes_and_no_identity(
    server: Served, done: JobView, client: Client, tmp_path: Path
) -> None:
    # Packing it takes as long as a fast network, so no job does it before somebody asks.
    assert not list(server.data.glob("results/*/view.html"))
    page = b"".join(client.pieces(done, "view.html")).decode()
    options, found = held(page)
    client.download(done, "thin.nii.gz", tmp_path / "thin.nii.gz")
    np.testing.assert_array_equal(found["thin"], thinslice.read(tmp_path / "thin.nii.gz").hu)
    assert {"thick", "thin", "deviation"} == found.keys() and thinslice.NOTICE in options["notice"]
    assert any("linear" in text for _, text in options["facts"])
    assert_no_canary(page)
    assert b"".join(client.pieces(done, "view.html")).decode() == page


def test_raw_volumes_are_those_of_the_files(done: JobView, client: Client, thick_dicom: Path, tmp_path: Path) -> None:
    views = {view.name: view for view in client.volumes(done)}
    assert set(views) == {"thick", "thin", "uncertainty"}
    thick = thinslice.read(thick_dicom)
    client.download(done, "thin.nii.gz", tmp_path / "thin.nii.gz")
    thin = thinslice.read(tmp_path / "thin.nii.gz")
    for name, volume in (("thick", thick), ("thin", thin)):
        view = views[name]
        assert view.shape == volume.hu.shape and view.ready_slices == len(volume.hu)
        raw = np.frombuffer(client.slices(done, name, 0, view.ready_slices), "<i2").reshape(view.shape)
        np.testing.assert_array_equal(raw, volume.hu)
        np.testing.assert_allclose(view.origin_mm, volume.geometry.origin_mm, atol=1e-3)
        np.testing.assert_allclose(view.direction, volume.geometry.direction, atol=1e-6)
        part = np.frombuffer(client.slices(done, name, 1, 3), "<i2")
        np.testing.assert_array_equal(part, raw[1:3].ravel())
    view = views["uncertainty"]
    client.download(done, "uncertainty.nii.gz", tmp_path / "deviation.nii.gz")
    deviation = thinslice.read(tmp_path / "deviation.nii.gz").hu
    raw = np.frombuffer(client.slices(done, "uncertainty", 0, view.ready_slices), "<i2").reshape(view.shape)
    np.testing.assert_allclose(raw * view.scale, deviation, atol=view.scale / 2)


def test_the_same_request_is_the_same_job_and_the_same_upload_too(
    done: JobView, client: Client, source: SourceView, thick_dicom: Path
) -> None:
    assert client.submit(source, model="linear", uncertainty="ensemble").id == done.id
    again = client.upload([thick_dicom])
    assert again.id != source.id
    assert client.submit(again, model="linear", uncertainty="ensemble").id == done.id
    assert client.submit(source, model="nearest").id != done.id
    client.remove_source(again)


def test_a_folder_of_the_server_gives_the_same_voxels(done: JobView, client: Client, tmp_path: Path) -> None:
    chosen = client.choose(0)
    made = client.wait(client.submit(chosen, model="linear", uncertainty="ensemble"))
    assert made.id != done.id
    for job, name in ((done, "a"), (made, "b")):
        client.download(job, "thin.nii.gz", tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("kind", ["zip", "nifti"])
def test_a_zip_and_a_nifti_give_what_the_command_line_gives(
    kind: str, client: Client, thick_dicom: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    packed = tmp_path / ("scan.zip" if kind == "zip" else "scan.nii.gz")
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for path in thick_dicom.iterdir():
                archive.write(path, f"deep/Kanarienvogel^Gelb/{path.name}")
    else:
        thinslice.write(thinslice.read(thick_dicom), packed)
    job = client.wait(client.submit(client.upload([packed]), model="linear"))
    assert ("dicom.zip" in job.files) == (kind == "zip")
    client.download(job, "thin.nii.gz", tmp_path / "fetched.nii.gz")
    assert run("upscale", packed, tmp_path / "thin.nii.gz", "--model", "linear", "--threads", "1").code == 0
    assert (tmp_path / "fetched.nii.gz").read_bytes() == (tmp_path / "thin.nii.gz").read_bytes()


def test_a_request_that_no_run_can_have_is_refused_with_a_sentence(client: Client, source: SourceView) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        client.submit(source, factor=5, spacing_mm=1.0)
    with pytest.raises(ModelError, match="offers no network"):
        client.submit(source, model="/etc/passwd")
    with pytest.raises(InputError, match="no series number 9") as refused:
        client.submit(source, series=9)
    assert refused.value.exit_code == 3
    with pytest.raises(UsageError, match="factor"):
        client.submit(source, factor=99)
    with pytest.raises(InputError, match="no such source"):
        client.submit("0" * 16)


def test_a_job_that_cannot_be_done_fails_with_the_reason(client: Client, source: SourceView) -> None:
    with pytest.raises(InputError, match="spacing"):
        client.wait(client.submit(source, model="linear", spacing_mm=0.1))


def test_what_is_no_ct_is_refused_with_the_sentence_of_inspect(client: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no CT at all\n" * 50)
    with pytest.raises(InputError, match="not a format that thinslice reads"):
        client.upload([tmp_path / "notes.txt"])


def test_a_job_is_removed_with_its_files(client: Client, source: SourceView, server: Served) -> None:
    made = client.wait(client.submit(source, model="nearest"))
    results = server.data / "results"
    before = len(list(results.iterdir()))
    client.remove(made)
    assert len(list(results.iterdir())) == before - 1
    with pytest.raises(InputError, match="no such job"):
        client.job(made)
    with pytest.raises(InputError, match="no such file|no such job"):
        list(client.pieces(made, "thin.nii.gz"))


def test_changes_arrive_as_server_sent_events(server: Served, client: Client, source: SourceView) -> None:
    since = server.ask("GET", "/api/jobs").json()["revision"]
    job = client.submit(source, model="cubic")
    states: list[str] = []
    with server.ask("GET", f"/api/events?since={since}", stream=True) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        last = 0
        for line in stream.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("id: "):
                assert int(line[4:]) > last
                last = int(line[4:])
            if line.startswith("data: ") and '"state"' in line:
                view = JobView.model_validate_json(line[6:])
                states += [] if view.id != job.id or states[-1:] == [view.state] else [view.state]
            if states[-1:] == ["done"]:
                break
    # The queue may have gone on before the stream began: it then begins with the newest state.
    assert states == ["queued", "running", "done"][-len(states) :]
    resumed = server.ask("GET", "/api/events", headers={"Last-Event-ID": str(since)}, stream=True)
    with resumed:
        first = next(line for line in resumed.iter_lines(chunk_size=1, decode_unicode=True) if line.startswith("id: "))
    assert int(first[4:]) > since


def test_the_description_of_the_api_names_every_route_and_loads_nothing(server: Served) -> None:
    described = server.ask("GET", "/api/openapi.json").json()
    assert described["info"]["title"] == "thinslice" and "/api/jobs/{job}" in described["paths"]
    for route in described["paths"].values():
        assert all(operation["description"] for operation in route.values())
    for page in ("/docs", "/redoc"):
        assert server.ask("GET", page).status_code == 404
    page = server.ask("GET", "/").text
    assert "http://" not in page and "https://" not in page


def test_a_job_is_cancelled(client: Client, source: SourceView, server: Served) -> None:
    cancelled = client.cancel(client.submit(source, model="default"))
    assert cancelled.state == "cancelled" or cancelled.state == "running"
    with pytest.raises(UsageError, match="cancelled"):
        client.wait(cancelled)
    assert client.job(cancelled).files == ()


def test_the_command_line_lets_the_server_do_the_work(
    server: Served, thick_dicom: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    here = ("--model", "linear", "--threads", "1")
    there = ("--model", "linear", "--server", server.address, "--series", "1")
    assert run("upscale", thick_dicom, tmp_path / "here", *here).code == 0
    report = tmp_path / "report.json"
    outcome = run("upscale", thick_dicom, tmp_path / "there", *there, "--report", report)
    assert outcome.code == 0, outcome.err
    assert "slices       4 -> 16" in outcome.out
    assert json.loads(report.read_text())["model"]["name"] == "linear"
    files = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    again = run("upscale", thick_dicom, tmp_path / "there", *there)
    assert again.code == 5 and "exists" in again.err
    for wrong, code, words in (
        (("--server", "http://127.0.0.1:1/?token=x"), 3, "does not answer"),
        (("--server", server.base), 2, "?token="),
        (("--server", server.address, "--threads", "2"), 2, "not for a server"),
        (("--server", server.address, "--series", "no"), 3, "names none of the 1 series"),
        (("--server", server.base + "/?token=wrong"), 2, "token is missing or wrong"),
    ):
        outcome = run("upscale", thick_dicom, tmp_path / "new", *wrong)
        assert outcome.code == code and words in outcome.text
        assert not (tmp_path / "new").exists()


def test_a_second_server_on_the_same_data_is_refused(server: Served, run: Run) -> None:
    outcome = run("serve", "--no-browser", "--port", "0", "--data", server.data)
    assert outcome.code == 5 and "Another server uses the data folder" in outcome.text


def test_a_server_that_is_killed_and_started_again_finishes_its_jobs_once(
    server: Served, client: Client, source: SourceView
) -> None:
    jobs = [client.submit(source, model=model) for model in ("default", "fast", "cubic-consistent")]
    server.kill()
    with pytest.raises(ServerAwayError):
        client.job(jobs[0])
    server.start()
    done = [client.wait(job) for job in jobs]
    assert [job.state for job in done] == ["done"] * 3
    results = [path.name for path in (server.data / "results").iterdir()]
    assert all(not name.startswith(".") for name in results)
    assert list((server.data / "live").iterdir()) == []
    assert server.process.poll() is None
