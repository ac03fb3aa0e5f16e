"""Rows 16 and 17: input and weights made to harm."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from support.command_line import Run
from support.dicom_factory import CANARY, write_series
from support.fault_checks import refuse, refuse_upscale, upscale
from thinslice.models import catalog, checkpoint

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

UIDS = ("../../x", "/etc/passwd", "1.2\n3", "1.2\x1b[31m", CANARY["PatientName"], "9" * 5000)


@pytest.mark.parametrize("uid", UIDS, ids=range(len(UIDS)))
def test_row_16_a_hostile_uid_is_contained(uid: str, tmp_path: Path, run: Run) -> None:
    def spoil(dataset, k: int) -> None:
        for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            dataset[keyword]._value = uid
        dataset.file_meta["MediaStorageSOPInstanceUID"]._value = uid

    write_series(tmp_path / "in", shape=(3, 16, 16), edit=spoil)
    listed = run("inspect", tmp_path / "in", "--json")
    assert "\x1b" not in listed.out and max(map(len, listed.out.splitlines())) < 2000
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "out"
    outcome = run("upscale", tmp_path / "in", out, "--model", "linear")
    assert outcome.code in (0, 3), outcome.err
    assert "\x1b" not in outcome.text
    made = set(tmp_path.rglob("*")) - before
    if outcome.code == 3:
        assert made == set()
        return
    assert made == {out, *out.iterdir()} and len(made) == 12
    for path in out.iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
            assert pydicom.uid.UID(str(header[keyword].value)).is_valid, keyword
        assert path.name.isascii() and ".." not in path.name


@pytest.mark.parametrize("levels", [300, 5000])
def test_row_16_nested_sequences_are_refused(levels: int, tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(1, 16, 16))
    nested = b""
    for _ in range(levels):
        nested = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + nested + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        nested = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + nested
        nested += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data = made.files[0].read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW")
    made.files[0].write_bytes(data[:at] + nested + data[at:])
    refuse_upscale(run, tmp_path / "in", words=("nested", "slice0000"))


def test_row_16_an_executable_in_the_preamble_is_not_copied(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16), preamble=b"MZ\x90\x00".ljust(128, b"\xcc"))
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin")
    for path in (tmp_path / "out" / "thin").iterdir():
        content = path.read_bytes()
        assert content[:132] == bytes(128) + b"DICM"
        assert b"\xcc" * 16 not in content


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file of a small network, as the package writes it."""
    torch.manual_seed(0)
    network = catalog.build(
        "tvsrn", encoder_blocks=1, through_plane_blocks=1, decoder_groups=1, depth=2, factor=5, features=2, heads=2
    )
    path = tmp_path / "weights.safetensors"
    checkpoint.save(network, path, architecture="tvsrn", card={"name": "small", "version": "1"})
    return path


def with_header(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    meta = json.loads(header["__metadata__"]["thinslice"])
    change(meta)
    header["__metadata__"]["thinslice"] = json.dumps(meta)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


class Trap:
    """Runs code when a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("the pickle was run",)


def wrong_hash(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Trap()}))


def zipped_pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def other_architecture(path: Path) -> None:
    with_header(path, lambda meta: meta.update(architecture="thinnet"))


def unknown_architecture(path: Path) -> None:
    with_header(path, lambda meta: meta.update(architecture="../../x\x1b[31m"))


def absurd_config(path: Path) -> None:
    with_header(path, lambda meta: meta["config"].update(features=2**30, heads=2**20))


def endless_config(path: Path) -> None:
    with_header(path, lambda meta: meta["config"].update(encoder_blocks=10**9))


SPOILED = (
    wrong_hash, truncated, pickled, zipped_pickle, other_architecture, unknown_architecture, absurd_config,
    endless_config,
)  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_row_17_weights_are_refused_before_anything_is_loaded(
    spoil: Callable[[Path], None], weights: Path, thick_nifti: Path, tmp_path: Path, run: Run, monkeypatch
) -> None:
    import safetensors.torch

    def refuse_to_load(*_: object, **__: object) -> None:
        pytest.fail("tensors were loaded from a file that should have been refused first")

    spoil(weights)
    monkeypatch.setattr(safetensors.torch, "load_file", refuse_to_load)
    out = tmp_path / "out"
    out.mkdir()
    outcome = refuse(
        run, "upscale", thick_nifti, out / "thin.nii", "--model", weights,
        code=4, words=("weights.safetensors",), inputs=(thick_nifti, weights), out=out,
    )  # fmt: skip
    assert "the pickle was run" not in outcome.text


def test_row_17_the_whole_weights_are_taken(weights: Path, thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    """What is spoiled above is good before: the refusals are due to the damage."""
    options = ("--model", weights, "--device", "cpu", "--backend", "torch", "--threads", "1")
    _, report = upscale(run, thick_nifti, tmp_path / "out" / "thin.nii", *options)
    assert report["model"]["sha256"] == checkpoint.inspect(weights).sha256
    assert np.isfinite(report["consistency_rms_hu"])
