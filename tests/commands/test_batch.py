"""A folder of studies in one run: what is done, skipped, refused, and what a run that was cut short leaves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pydicom.dataset import FileDataset

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import CANARY, assert_no_canary, write_series
from thinslice.commands import batch_sources, one_of_many, upscale
from thinslice.commands.batch import BatchJob, run_batch
from thinslice.commands.batch_records import SeriesRow
from thinslice.commands.batch_sources import find_sources
from thinslice.commands.inspect import survey
from thinslice.commands.neutral_names import is_neutral, neutral_place
from thinslice.errors import OutputBusyError, OutputError, OutputExistsError, ThinsliceError, UsageError
from thinslice.inference.settings import UpscaleSettings
from thinslice.io.settings import ReadSettings

LINEAR = UpscaleSettings(model="linear")


def _numbered(number: int) -> Any:
    def edit(dataset: FileDataset, _: int) -> None:
        dataset.SeriesNumber = number

    return edit


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two good series in folders of two patients, one of them as a zip, a NIfTI, a thin series and one with a gap."""
    folder = tmp_path / "studies"
    write_series(folder / "Kanarienvogel_Gelb" / "a", shape=(4, 16, 16), seed=1, uid="1.2.1", edit=_numbered(3))
    write_series(folder / "Kanarienvogel_Gelb" / "b", shape=(8, 16, 16), seed=2, uid="1.2.2", spacing_mm=(1, 0.7, 0.7))
    write_series(folder / "case_02", shape=(6, 16, 16), seed=3, uid="1.2.3", missing=(2,))
    write_series(tmp_path / "loose", shape=(4, 16, 16), seed=4, uid="1.2.4", edit=_numbered(7))
    with zipfile.ZipFile(folder / "case_02" / "disc.zip", "w") as archive:
        for file in sorted((tmp_path / "loose").iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(tmp_path / "loose")
    thinslice.write(smooth_volume(), folder / "case_02" / "thick.nii.gz")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def job(studies: Path, tmp_path: Path) -> BatchJob:
    return BatchJob(studies, tmp_path / "out", LINEAR)


def _by_uid(rows: tuple[SeriesRow, ...]) -> dict[str | None, SeriesRow]:
    return {row.series_uid: row for row in rows}


def test_every_eligible_series_is_upscaled_and_the_summary_says_why_others_are_not(job: BatchJob) -> None:
    summary = run_batch(job)
    rows = _by_uid(summary.series)
    assert {uid: row.status for uid, row in rows.items()} == {
        "1.2.1": "done",
        "1.2.2": "skipped",
        "1.2.3": "refused",
        "1.2.4": "done",
        None: "done",
    }
    assert summary.exit_code == 8 and summary.counts == {"done": 3, "skipped": 1, "refused": 1, "failed": 0}
    assert "already thin" in str(rows["1.2.2"].reason) and rows["1.2.2"].exit_code == 0
    assert "missing" in str(rows["1.2.3"].reason) and rows["1.2.3"].exit_code == 3
    for uid, shape in (("1.2.1", (16, 16, 16)), ("1.2.4", (16, 16, 16)), (None, (21, 24, 24))):
        assert thinslice.read(job.out / str(rows[uid].output)).geometry.shape == shape
    assert rows[None].output == "case_02/thick.nii.gz"
    assert str(rows["1.2.4"].output).startswith("case_02/series-7-")
    assert str(rows["1.2.1"].output).startswith("study-") and "/series-3-" in str(rows["1.2.1"].output)


def test_files_of_other_kinds_do_not_make_a_batch_partly_done(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    write_series(folder / "a", shape=(4, 16, 16), seed=1)
    (folder / "a" / "read me.txt").write_text("Für Frau Dr. Weiß")
    (folder / "notes.csv").write_bytes("Größe;5\r\n".encode("latin-1"))
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(60))
    (folder / "a" / "._slice0000.dcm").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40))
    summary = run_batch(BatchJob(folder, tmp_path / "out", LINEAR))
    assert (summary.exit_code, summary.unreadable, summary.counts["done"]) == (0, 0, 1)
    (folder / "a" / "slice9999.dcm").write_bytes(bytes(100))
    assert run_batch(BatchJob(folder, tmp_path / "out", LINEAR)).unreadable == 1


def test_a_kill_never_leaves_a_table_beside_the_summary_of_another_run(tmp_path: Path) -> None:
    """The process ends before its nth change of a name; the table then is that of the JSON, or is not there."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from thinslice.commands.batch_records import BatchSummary, SeriesRow, write_summary\n"
        "out, name, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "(out / '.thinslice').mkdir(parents=True, exist_ok=True)\n"
        "row = SeriesRow(kind='CT', status='done', seconds=1.0, exit_code=0, output=name)\n"
        "changes = 0\n"
        "def count(event, arguments):\n"
        "    global changes\n"
        "    changes += event in ('os.rename', 'os.remove', 'os.link')\n"
        "    if changes == last:\n"
        "        os._exit(9)\n"
        "sys.addaudithook(count)\n"
        "write_summary(BatchSummary.of([row], {}, seconds=1.0), out)\n"
        "print(changes)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    whole = subprocess.run([*command, "0", "-1"], capture_output=True, text=True, check=True)
    changes = int(whole.stdout)
    assert changes >= 2, "the summary is renamed into place, and so is its table"
    for ends_before in range(1, changes + 1):
        subprocess.run([*command, str(ends_before), str(ends_before)], check=False)
        (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["series"]
        table = tmp_path / "out" / "summary.csv"
        if table.exists():
            assert [line["output"] for line in csv.DictReader(table.open(newline=""))] == [row["output"]]


def test_the_summary_is_on_the_disk_and_identifies_nobody(job: BatchJob) -> None:
    summary = run_batch(job)
    values = json.loads((job.out / "summary.json").read_text())
    assert values["schema"] == "thinslice-batch/1" and values["counts"]["done"] == 3
    assert [row["status"] for row in values["series"]] == [row.status for row in summary.series]
    with (job.out / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["output"] for row in table] == [row.output or "" for row in summary.series]
    texts = [path.read_text() for path in job.out.rglob("*.json")] + [(job.out / "summary.csv").read_text()]
    assert_no_canary("".join([*texts, *(path.as_posix() for path in job.out.relative_to(job.out.parent).rglob("*"))]))
    assert_no_canary([path.name for path in job.out.rglob("*")])


def test_a_reason_names_no_file_of_the_source(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / CANARY["PatientName"]
    folder.mkdir(parents=True)
    (folder / "Kanarienvogel.nii").write_bytes(b"no NIfTI")
    write_series(folder / "ct", shape=(4, 16, 16), prefix="kanarienvogel")
    damaged = sorted((folder / "ct").iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:900])
    summary = run_batch(BatchJob(tmp_path / "studies", tmp_path / "out", LINEAR))
    assert [row.status for row in summary.series] == ["refused", "refused"] and summary.exit_code == 3
    assert_no_canary((tmp_path / "out" / "summary.json").read_text())


def test_a_second_run_skips_what_is_done_with_the_same_settings(job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_batch(job)
    before = {path: path.stat().st_mtime_ns for path in job.out.rglob("thin_*.dcm")}
    second = run_batch(job)
    assert second.counts == {"done": 0, "skipped": 4, "refused": 1, "failed": 0} and second.exit_code == 8
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = [row for row in second.series if row.reason == "done by an earlier run"]
    assert {row.output for row in again} == {row.output for row in first.series if row.status == "done"}
    assert all(row.factor == 5 for row in again)


@pytest.mark.parametrize("change", ["settings", "source", "damage", "removal"])
def test_what_has_changed_is_refused_or_made_again(change: str, job: BatchJob) -> None:
    first = _by_uid(run_batch(job).series)
    output = job.out / str(first["1.2.1"].output)
    if change == "settings":
        job = replace(job, settings=replace(LINEAR, factor=4))
    elif change == "source":
        write_series(job.folder / "Kanarienvogel_Gelb" / "a", shape=(5, 16, 16), seed=1, uid="1.2.1", edit=_numbered(3))
    elif change == "damage":
        next(output.iterdir()).write_bytes(b"cut")
    else:
        shutil.rmtree(output)
    row = _by_uid(run_batch(job).series)["1.2.1"]
    if change in ("settings", "source"):
        assert (row.status, row.exit_code) == ("failed", 5) and "overwrite=True" in str(row.reason)
        row = _by_uid(run_batch(replace(job, overwrite=True)).series)["1.2.1"]
    assert row.status == "done"
    depth = {"settings": 13, "source": 21}.get(change, 16)
    assert thinslice.read(output).geometry.shape[0] == depth


def test_an_output_of_somebody_else_is_never_replaced_unasked(job: BatchJob) -> None:
    output = job.out / "case_02" / "thick.nii.gz"
    output.parent.mkdir(parents=True)
    output.write_bytes(b"mine")
    row = _by_uid(run_batch(job).series)[None]
    assert (row.status, row.exit_code) == ("failed", 5) and output.read_bytes() == b"mine"


def test_a_failure_ends_its_series_alone(job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(*arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("Kanarienvogel")
        return upscale.run_upscale(*arguments, **keywords)

    monkeypatch.setattr(one_of_many, "run_upscale", failing)
    summary = run_batch(job)
    assert summary.counts["failed"] == 1 and summary.counts["done"] == 2 and summary.exit_code == 8
    failed = next(row for row in summary.series if row.status == "failed")
    assert failed.exit_code == 1 and "RuntimeError" in str(failed.reason) and "Kanarienvogel" not in str(failed.reason)


def test_the_model_is_loaded_once(job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from thinslice.models import load

    loads = []
    original = load.load_model
    monkeypatch.setattr(load, "load_model", lambda *a, **k: (loads.append(a), original(*a, **k))[1])
    assert run_batch(job).counts["done"] == 3
    assert len(loads) == 1


def test_own_series_and_the_folder_of_outputs_are_no_inputs(studies: Path) -> None:
    job = BatchJob(studies, studies / "out", replace(LINEAR, spacing_mm=2.5))
    first = run_batch(job)
    assert run_batch(job).counts["skipped"] == first.counts["done"] + first.counts["skipped"]
    shutil.move(studies / "out", studies / "copy")
    shutil.rmtree(studies / "copy" / ".thinslice")
    sources = find_sources(studies, studies / "out").sources
    own = [source for source in sources if source.shown.startswith("copy/") and source.series_uid]
    assert len(own) == 2 and all(source.left_out == "made by thinslice" for source in own)


def test_patients_who_share_a_uid_are_two_series(tmp_path: Path) -> None:
    for name, seed in (("p1", 1), ("p2", 2)):

        def edit(dataset: FileDataset, _: int, name: str = name) -> None:
            dataset.PatientID = name

        write_series(tmp_path / "in" / name, shape=(3, 16, 16), seed=seed, uid="1.2.3", study_uid="1.2", edit=edit)
    summary = run_batch(BatchJob(tmp_path / "in", tmp_path / "out", LINEAR))
    assert summary.counts["done"] == 2 and len({row.output for row in summary.series}) == 2


def test_the_format_of_the_outputs(job: BatchJob) -> None:
    summary = run_batch(replace(job, output_format="nifti"))
    assert all(str(row.output).endswith(".nii.gz") for row in summary.series if row.status == "done")
    assert summary.counts["done"] == 3
    (row,) = [row for row in run_batch(replace(job, output_format="dicom")).series if row.kind == "NIfTI"]
    assert row.status == "skipped" and "no DICOM series can be derived" in str(row.reason)


def test_enhanced_outputs_are_one_file_for_each_series(tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16), seed=1)
    job = BatchJob(tmp_path / "in", tmp_path / "out", LINEAR, output_format="dicom-enhanced")
    (row,) = run_batch(job).series
    assert row.status == "done" and str(row.output).endswith(".dcm"), row.reason
    assert thinslice.read(job.out / str(row.output)).geometry.shape == (11, 16, 16)
    assert run_batch(job).counts["skipped"] == 1


OPENED: list[str] = []
"""Files that were opened while `opening` holds."""
WATCHING = [False]


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if WATCHING[0] and event == "open" and str(arguments[0]).endswith(".dcm"):
        OPENED.append(str(arguments[0]))


def test_every_slice_is_opened_for_its_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for series in range(3):
        write_series(tmp_path / "in" / f"series{series}", shape=(5, 16, 16), seed=series)
    sys.addaudithook(watch)  # there is no way to remove one

    def opened(out: str) -> Counter[str]:
        OPENED.clear()
        WATCHING[0] = True
        try:
            summary = run_batch(BatchJob(tmp_path / "in", tmp_path / out, LINEAR))
        finally:
            WATCHING[0] = False
        assert summary.counts["done"] == 3
        return Counter(path for path in OPENED if str(tmp_path / "in") in path)

    # Its first bytes, its header, its pixels.
    assert set(opened("out").values()) == {3} and len(opened("again")) == 15
    monkeypatch.setattr(batch_sources, "MOST_HEADERS", 7)
    assert sorted(opened("bounded").values()) == [3] * 5 + [5] * 10, "what was not kept is read once more"
    assert not any(source.headers for source in find_sources(tmp_path / "in", tmp_path / "out").sources[1:])


def test_a_tilted_series_is_refused_unless_it_is_resampled(tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(4, 32, 32), seed=1, tilt_degrees=10.0)
    job = BatchJob(tmp_path / "in", tmp_path / "out", LINEAR)
    (row,) = run_batch(job).series
    assert row.status == "refused" and "tilt" in str(row.reason)
    write_series(tmp_path / "even", shape=(4, 16, 16), seed=2)
    thinslice.write(thinslice.read(tmp_path / "even"), tmp_path / "in" / "even.nii.gz")
    # Options of reading hold for the sources to which they apply.
    reading = ReadSettings(axis=2, on_tilt="resample", on_spacing="resample")
    rows = run_batch(replace(job, reading=reading)).series
    assert [row.status for row in rows] == ["done", "done"], [row.reason for row in rows]


def test_what_cannot_be_read_is_counted_and_makes_the_batch_partly_done(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "good", shape=(4, 16, 16), seed=1)
    write_series(tmp_path / "loose", shape=(3, 16, 16), seed=2)
    (tmp_path / "in" / "damaged.dcm").write_bytes(next((tmp_path / "loose").iterdir()).read_bytes()[:300])
    with zipfile.ZipFile(tmp_path / "in" / "cut.zip", "w") as archive:
        for file in sorted((tmp_path / "loose").iterdir()):
            archive.write(file, file.name)
    (tmp_path / "in" / "cut.zip").write_bytes((tmp_path / "in" / "cut.zip").read_bytes()[:3000])
    lines: list[str] = []
    summary = run_batch(BatchJob(tmp_path / "in", tmp_path / "out", LINEAR), notify=lines.append)
    assert summary.counts["done"] == 1 and summary.exit_code == 8
    assert summary.unreadable + summary.counts["refused"] >= 2
    assert any("damaged or closed file" in line for line in lines)


def test_nothing_that_could_be_done_is_exit_3(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("no image")
    assert run_batch(BatchJob(tmp_path / "in", tmp_path / "out", LINEAR)).exit_code == 3


def test_numbers_and_time_left_are_announced(job: BatchJob) -> None:
    begun: list[tuple[int, int, float | None]] = []
    shares: list[tuple[str, float]] = []
    run_batch(job, begins=lambda *values: begun.append(values), phase=lambda *values: shares.append(values))
    assert [values[:2] for values in begun] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert begun[0][2] is None and begun[-1][2] is not None and begun[-1][2] >= 0
    assert {name for name, _ in shares} == {"reading", "preparing", "network", "writing"}
    assert all(0 <= share <= 1 for _, share in shares)


def test_two_batches_do_not_share_a_folder(job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(*_: Any, **__: Any) -> Any:
        with pytest.raises(OutputBusyError, match="Another batch"):
            run_batch(job)
        raise OutputError("tried")

    monkeypatch.setattr(one_of_many, "run_upscale", second)
    summary = run_batch(job)
    assert {row.reason for row in summary.series if row.status == "failed"} == {"tried"}


@pytest.mark.parametrize(
    "change",
    [
        {"reading": ReadSettings(series="2")},
        {"settings": UpscaleSettings(model="linear", uncertainty="ensemble")},
        {"folder": "file"},
        {"out": "file"},
        {"out": "parent"},
    ],
    ids=str,
)
def test_contradictions_are_usage_errors(change: dict[str, Any], job: BatchJob) -> None:
    places = {"file": job.folder / "notes.txt", "parent": job.folder.parent}
    changed = {name: places[value] if isinstance(value, str) else value for name, value in change.items()}
    with pytest.raises(UsageError):
        run_batch(replace(job, **changed))
    assert not (job.folder.parent / "out").exists()


def test_a_missing_parent_and_a_foreign_summary_are_refused_before_the_search(job: BatchJob) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        run_batch(replace(job, out=job.out / "deep" / "deeper"))
    job.out.mkdir()
    (job.out / "summary.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"summary\.csv"):
        run_batch(job)
    assert (job.out / "summary.csv").read_text() == "mine"


def test_an_interruption_leaves_the_summary_so_far(job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = upscale.run_upscale, []

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(one_of_many, "run_upscale", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_batch(job)
    values = json.loads((job.out / "summary.json").read_text())
    assert values["interrupted"] is True and values["counts"]["done"] == 1
    monkeypatch.undo()
    assert run_batch(job).counts["done"] == 2


KILLED = """
import os, signal, sys
from collections import Counter
from pathlib import Path
from thinslice.commands import batch, one_of_many
from thinslice.commands.batch import BatchJob, run_batch
from thinslice.commands.batch_records import Record
from thinslice.inference.settings import UpscaleSettings
moment, done = sys.argv[3], []
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "in the network":
    from thinslice.inference import stitch
    original = one_of_many.run_upscale
    def second(*a, **k):
        done.append(a)
        if len(done) == 2:
            from thinslice.inference.backends.torch_backend import TorchBackend
            TorchBackend.__call__ = kill
        return original(*a, **k)
    one_of_many.run_upscale = second
elif moment == "before the record":
    Record.finish = kill
else:
    batch.write_summary = kill
run_batch(BatchJob(Path(sys.argv[1]), Path(sys.argv[2]), UpscaleSettings(model="linear")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")
@pytest.mark.parametrize("moment", ["in the network", "before the record", "in the summary"])
def test_a_killed_batch_is_continued_and_nothing_half_written_counts_as_done(
    moment: str, job: BatchJob, tmp_path: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(job.folder), str(job.out), moment],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    done = run_batch(job)
    assert sum(row.output is not None for row in done.series) == 3 and done.exit_code == 8
    whole = run_batch(replace(job, out=tmp_path / "whole"))
    for row in whole.series:
        if row.output is not None:
            left, right = thinslice.read(job.out / row.output), thinslice.read(tmp_path / "whole" / row.output)
            assert (left.hu == right.hu).all() and left.geometry == right.geometry
    hidden = [path for path in job.out.rglob(".*") if path.name != ".thinslice"]
    assert hidden == []


def test_a_model_that_does_not_exist_ends_the_batch_at_once(job: BatchJob) -> None:
    with pytest.raises(ThinsliceError):
        run_batch(replace(job, settings=UpscaleSettings(model="no such model")))


@pytest.mark.parametrize(
    ("name", "neutral"),
    [("case_003", True), ("Study 12", True), ("sub-01", True), ("chest_5mm", True)]
    + [(name, False) for name in ("Doe_Jane", "DOE^JANE", "20190312", "1-2-2019", "12345678", "Müller", "case_Doe")],
)
def test_only_names_of_common_words_and_few_digits_are_kept(name: str, neutral: bool) -> None:
    assert is_neutral(name) is neutral


def test_a_refused_file_is_found_again_by_inspect_and_named_nowhere_else(job: BatchJob) -> None:
    place = job.folder / "Kanarienvogel_Gelb" / "Kanarienvogel.nii"
    place.write_bytes(b"\x5c\x01\0\0" + bytes(400))
    (row,) = [row for row in run_batch(job).series if row.status == "refused" and row.series_uid is None]
    (listed,) = [series for series in survey(job.folder) if series.source == row.source]
    assert listed.path == "Kanarienvogel_Gelb/Kanarienvogel.nii"
    for name in ("summary.json", "summary.csv"):
        text = (job.out / name).read_text()
        assert str(row.source) in text and "Kanarienvogel" not in text


def test_what_follows_the_dot_of_an_unknown_suffix_may_be_a_name() -> None:
    assert "doe" not in neutral_place(PurePosixPath("scan.Doe")).as_posix().lower()


def test_a_folder_without_a_volume_leaves_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    summary = run_batch(BatchJob(tmp_path / "empty", tmp_path / "out", LINEAR))
    assert summary.exit_code == 3 and not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    run_batch(BatchJob(tmp_path / "empty", tmp_path / "mine", LINEAR))
    assert (tmp_path / "mine").is_dir()
