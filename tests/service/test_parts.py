"""Parts of the service that need no server: settings, streams, keys, choices."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.skips import PROJECT
from thinslice.errors import NotEligibleError, OutputError, SeriesChoiceError, UsageError
from thinslice.inference.settings import UpscaleSettings
from thinslice.io.settings import ReadSettings
from thinslice.service.client import Client
from thinslice.service.jobs import READING_NAMES, SETTING_NAMES, chosen_series, offered_models
from thinslice.service.remote import series_number
from thinslice.service.schemas import JobRequest, SourceView, VolumeView
from thinslice.service.settings import ServeSettings
from thinslice.service.volumes import byte_range
from thinslice.service.zip_stream import PIECE_BYTES, zip_pieces

STATIC = PROJECT / "src" / "thinslice" / "service" / "static"


def series(number: int, **rest: Any) -> dict[str, Any]:
    return {"number": number, "kind": "CT", "series_uid": f"1.2.{number}", "eligible": True, "derived": False, **rest}


def source(*rows: dict[str, Any]) -> SourceView:
    return SourceView(id="0" * 16, kind="upload", state="ready", files=1, bytes=1, made_at_s=0.0, series=rows)


def test_a_zip_streams_in_pieces_and_is_the_same_each_time(tmp_path: Path) -> None:
    contents = {"a.dcm": b"first", "b.dcm": bytes(range(256)) * (3 * PIECE_BYTES // 256), "empty.dcm": b""}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    pieces = list(zip_pieces(tmp_path, "thin"))
    assert max(map(len, pieces)) < 2 * PIECE_BYTES
    assert b"".join(pieces) == b"".join(zip_pieces(tmp_path, "thin"))
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as packed:
        assert packed.testzip() is None
        assert {name: packed.read(name) for name in packed.namelist()} == {
            f"thin/{name}": data for name, data in contents.items()
        }


def test_slices_that_are_not_there_are_refused() -> None:
    view = VolumeView(
        name="thin",
        shape=(9, 2, 3),
        spacing_mm=(1.0, 1.0, 1.0),
        origin_mm=(0.0, 0.0, 0.0),
        direction=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        ready_slices=4,
    )
    for start, stop in ((0, 5), (2, 2), (3, 1), (4, None)):
        with pytest.raises(OutputError, match="4 are ready"):
            byte_range(view, start, stop)


def test_hosts_are_those_of_loopback_and_the_names_that_were_given(tmp_path: Path) -> None:
    assert ServeSettings(tmp_path).hosts(8377) == {"127.0.0.1:8377", "localhost:8377", "[::1]:8377"}
    open_to_all = ServeSettings(tmp_path, host="0.0.0.0", names=("CT.example",))
    assert "ct.example:80" not in open_to_all.hosts(80) and "ct.example" in open_to_all.hosts(80)
    assert not any(host.startswith("0.0.0.0") for host in open_to_all.hosts(8377))
    assert ServeSettings(tmp_path).is_local and not open_to_all.is_local


@pytest.mark.parametrize(
    "wrong",
    [{"keep_days": 0.0}, {"limit_gb": float("nan")}, {"port": 70_000}, {"workers": 0}, {"allow": (Path("no"),)}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ServeSettings(tmp_path, **wrong)


def test_a_request_carries_every_setting_but_those_of_the_computer() -> None:
    fields = set(JobRequest.model_fields)
    own = {"profile", "threads", "force"}
    assert {field.name for field in dataclasses.fields(UpscaleSettings)} == set(SETTING_NAMES) | own
    assert {field.name for field in dataclasses.fields(ReadSettings)} == {*READING_NAMES, "series"}
    assert fields == {*SETTING_NAMES, *READING_NAMES, "series", "source", "deidentify"}
    page = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.*"))
    assert [name for name in fields - {"axis", "plan", "backend", "texture_seed"} if name not in page] == []


def test_networks_without_weights_are_not_offered() -> None:
    names = [model.name for model in offered_models()]
    assert {"default", "fast", "best", "cubic", "linear"} <= set(names) and "tvsrn" not in names


def test_the_only_series_is_chosen_and_several_need_a_number() -> None:
    derived, unfit = series(2, derived=True), series(3, eligible=False)
    assert chosen_series(source(series(1), derived, unfit), None)["number"] == 1
    assert chosen_series(source(series(1), derived), 2)["number"] == 2
    with pytest.raises(SeriesChoiceError, match="2 series"):
        chosen_series(source(series(1), series(2)), None)
    with pytest.raises(NotEligibleError, match="damaged"):
        chosen_series(source(series(1, kind="unreadable", reasons=["It is damaged."])), 1)


def test_series_are_named_as_on_the_command_line() -> None:
    rows = source(series(1), series(2), series(12, series_uid=None))
    assert [series_number(rows, wanted) for wanted in ("12", "1.2.2", ".2.1")] == [12, 2, 1]
    for wanted, words in (("1.2.", "several"), ("9", "none")):
        with pytest.raises(SeriesChoiceError, match=words):
            series_number(rows, wanted)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8377", "ftp://x/?token=a", "http://127.0.0.1:8377/", "http:///?token=a"]
)
def test_an_address_without_a_token_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="token"):
        Client(address)
