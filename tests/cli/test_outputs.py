"""Outputs are refused before the input is read, and what was written stays whole when a later output fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import thinslice
from support.command_line import Run
from support.dicom_factory import write_series
from support.unprivileged import run_unprivileged
from thinslice.commands.run_report import RunReport
from thinslice.commands.upscale import UpscaleJob, run_upscale
from thinslice.errors import OutputError, OutputExistsError, ResourceError, ThinsliceError, UsageError
from thinslice.inference.settings import UpscaleSettings

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs a POSIX system")
LINEAR = UpscaleSettings(model="linear")


@pytest.fixture
def source(thick_nifti: Path) -> Path:
    return thick_nifti


@pytest.fixture
def unread(source: Path) -> Path:
    """An input that would be refused as soon as it is read: an earlier refusal is about something else."""
    source.write_bytes(b"no image")
    return source


@pytest.mark.parametrize("side", ["output", "preview", "report", "uncertainty", "view"])
def test_a_missing_folder_of_any_output_is_named_before_the_input_is_read(
    side: str, unread: Path, tmp_path: Path
) -> None:
    files = {"output": "thin.nii", "preview": "a.png", "report": "a.html", "uncertainty": "sd.nii", "view": "v.html"}
    places = {name: tmp_path / file for name, file in files.items()}
    places[side] = tmp_path / "absent folder" / files[side]
    settings = UpscaleSettings(model="linear", uncertainty="ensemble")
    with pytest.raises(OutputError, match="absent folder' *, which should hold.*does not exist; create it"):
        run_upscale(UpscaleJob(unread, settings=settings, **places))
    assert {entry.name for entry in tmp_path.iterdir()} == {"in"}


@pytest.mark.parametrize("side", ["preview", "report", "uncertainty", "view"])
def test_an_existing_side_file_is_refused_before_the_input_is_read(side: str, unread: Path, tmp_path: Path) -> None:
    place = tmp_path / {"preview": "a.png", "report": "a.html", "uncertainty": "sd.nii", "view": "v.html"}[side]
    place.write_text("mine")
    settings = UpscaleSettings(model="linear", uncertainty="ensemble" if side == "uncertainty" else None)
    job: dict[str, Any] = {side: place}
    with pytest.raises(OutputExistsError, match="exists; choose another output, or pass overwrite=True"):
        run_upscale(UpscaleJob(unread, tmp_path / "thin.nii", settings, **job))
    assert place.read_text() == "mine" and not (tmp_path / "thin.nii").exists()


def test_a_file_where_the_folder_should_be_is_called_a_file(unread: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is a file; name a folder there"):
        run_upscale(UpscaleJob(unread, tmp_path / "notes.txt" / "thin.nii", LINEAR))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        {"report": "report.txt"},
        {"preview": "look.jpg"},
        {"view": "look.htm"},
        {"output_format": "dicom"},
        {"settings": UpscaleSettings(model="no such model")},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_usage_comes_before_an_output_that_exists(wrong: dict[str, Any], unread: Path, tmp_path: Path) -> None:
    (tmp_path / "thin.nii").write_text("mine")
    options = {
        name: tmp_path / value if name in ("report", "preview", "view") else value for name, value in wrong.items()
    }
    with pytest.raises(UsageError):
        run_upscale(UpscaleJob(unread, **{"output": tmp_path / "thin.nii", "settings": LINEAR, **options}))


@pytest.mark.parametrize("error", [OutputError("No."), ResourceError("Full."), OSError(5, "Input/output error")])
def test_a_report_that_fails_after_the_network_leaves_the_volume_and_names_it(
    error: Exception, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(RunReport, "write", fail)
    output, preview = tmp_path / "thin.nii", tmp_path / "look.png"
    with pytest.raises(ThinsliceError, match=r"thin.nii' and '.*look.png' are complete and kept") as caught:
        run_upscale(UpscaleJob(source, output, LINEAR, preview=preview, report=tmp_path / "report.json"))
    assert caught.value.exit_code == (6 if isinstance(error, ResourceError) else 5)
    assert thinslice.read(output).geometry.shape[0] == 21


def test_an_uncertainty_that_fails_at_its_end_leaves_the_volume_and_names_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, uncertainty = tmp_path / "thin.nii", tmp_path / "sd.nii.gz"
    replaced = Path.rename

    def full(self: Path, to: Path) -> Path:
        if "sd.nii.gz" in str(to):
            raise OSError(28, "No space left on device", str(self))
        return replaced(self, to)

    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(95, "no links here")))
    monkeypatch.setattr(Path, "rename", full)
    settings = UpscaleSettings(model="linear", uncertainty="ensemble")
    with pytest.raises(ResourceError, match=r"thin.nii' is complete and kept"):
        run_upscale(UpscaleJob(source, output, settings, uncertainty=uncertainty))
    assert output.exists() and not uncertainty.exists()


def test_an_empty_folder_is_filled_and_another_one_is_not(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16))
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    assert run("upscale", tmp_path / "in", out, "--model", "linear").code == 0
    assert len(list(out.iterdir())) == 11 and out.stat().st_mode & 0o777 == 0o750
    outcome = run("upscale", tmp_path / "in", out, "--model", "linear")
    assert outcome.code == 5 and repr(str(out)) in outcome.err and "--overwrite" in outcome.err


def test_files_of_one_series_and_then_the_output(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16))
    files = sorted((tmp_path / "in").iterdir())
    assert run("upscale", *files, tmp_path / "out", "--model", "linear").code == 0
    assert thinslice.read(tmp_path / "out").geometry.shape == (11, 16, 16)
    outcome = run("upscale", *files[:2], tmp_path / "thin.nii", "--model", "linear", "--report", tmp_path / "r.json")
    assert outcome.code == 0 and '"kind": "files"' in (tmp_path / "r.json").read_text()


def test_a_forgotten_output_does_not_cost_the_last_slice(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16), suffix="")
    files = sorted((tmp_path / "in").iterdir())
    before = files[-1].read_bytes()
    outcome = run("upscale", *files, "--model", "linear", "--overwrite")
    assert outcome.code == 2 and "the last path is the output" in outcome.err
    assert files[-1].read_bytes() == before


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody but root may write."""
    folder = tmp_path / "closed"
    (folder / "open").mkdir(parents=True)
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


@LINUX
@pytest.mark.parametrize("option", [None, "--preview", "--report"])
def test_a_place_without_permission_is_exit_5_before_the_input_is_read(
    option: str | None, unread: Path, closed: Path, tmp_path: Path
) -> None:
    output = closed / "thin.nii" if option is None else tmp_path / "thin.nii"
    extra = [] if option is None else [option, closed / ("a.png" if option == "--preview" else "a.json")]
    done = run_unprivileged("upscale", unread, output, "--model", "linear", *extra)
    assert done.returncode == 5, done.stderr
    assert "Cannot write" in done.stderr and "choose another output" in done.stderr
    assert not (tmp_path / "thin.nii").exists()


@LINUX
def test_an_input_without_permission_is_exit_3(source: Path, tmp_path: Path) -> None:
    for place, mode in ((source, 0o000), (source.parent, 0o000)):
        before = place.stat().st_mode
        place.chmod(mode)
        done = run_unprivileged("upscale", source, tmp_path / "thin.nii")
        place.chmod(before)
        assert done.returncode == 3, done.stderr
        assert "may not be read by you" in done.stderr and "permissions" in done.stderr


@LINUX
def test_an_empty_folder_in_a_closed_place_is_filled_as_a_mount_point_is(tmp_path: Path, closed: Path) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16))
    done = run_unprivileged("upscale", tmp_path / "in", closed / "open", "--model", "linear")
    assert done.returncode == 0, done.stderr
    assert sorted(entry.name for entry in (closed / "open").iterdir()) == [f"thin_{k:04d}.dcm" for k in range(1, 12)]
    done = run_unprivileged("upscale", tmp_path / "in", closed / "open", "--model", "nearest", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert thinslice.read(closed / "open").geometry.shape == (11, 16, 16)
