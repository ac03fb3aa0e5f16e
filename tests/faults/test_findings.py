"""What fuzz/mutate.py and fuzz/target.py found, as the smallest inputs that show it."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import Run, smooth_volume
from support.dicom_factory import write_series
from support.fault_checks import assert_sentence, upscale
from thinslice.errors import InputError, ThinsliceError, ThinsliceWarning

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]


def test_a_zip_member_without_a_name_is_no_crash(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "ct", shape=(3, 16, 16))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "ct").iterdir()):
            archive.write(path, path.name)
        archive.writestr("x", b"")
    data = bytearray(packed.getvalue())
    # The last entry of the directory: its name has no bytes any more, its comment one.
    at = data.rindex(b"PK\x01\x02")
    data[at + 28 : at + 34] = struct.pack("<HHH", 0, 0, 1)
    source = tmp_path / "study.zip"
    source.write_bytes(data)
    outcome = run("upscale", source, tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code in (0, 3), outcome.err


def test_a_zip_member_whose_name_was_cut_off_at_its_folder_is_a_lost_file(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", shape=(4, 16, 16))
    source = tmp_path / "study.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for path in sorted((tmp_path / "ct").iterdir()):
            archive.write(path, f"study/{path.name}")
    data = bytearray(source.read_bytes())
    at = data.rindex(b"slice0003")
    data[at : at + 4] = bytes(4)  # zipfile ends a name at NUL
    source.write_bytes(data)
    volume = thinslice.read(source)
    assert volume.hu.shape[0] == 3
    assert any("damaged in the zip" in text for text in volume.provenance.warnings)


def test_a_slice_with_another_kernel_is_left_out_or_refused_and_never_a_crash(tmp_path: Path, run: Run) -> None:
    def spoil(dataset, k: int) -> None:
        if k == 3:
            dataset.ConvolutionKernel = "B--f"

    write_series(tmp_path / "in", shape=(4, 12, 12), edit=spoil)
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code in (0, 3), outcome.err
    assert "kernel" in outcome.err.lower()


@pytest.mark.parametrize("name", ["a.json", "a.toml"])
def test_keys_with_control_characters_reach_no_message(name: str, tmp_path: Path, run: Run) -> None:
    path = tmp_path / name
    if name == "a.json":
        path.write_text('{"offsets_mm": [0, 1, 2], "\\u001b[31m\\u007f": 1}')
        write_series(tmp_path / "in", shape=(3, 12, 12))
        outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--profile", path)
    else:
        path.write_text('name = "a"\n"\\u001b[31m\\u007f" = 1\n')
        outcome = run("train", path)
    assert outcome.code in (2, 3), outcome.err
    assert_sentence(outcome)


def test_control_characters_of_a_message_are_replaced() -> None:
    assert str(ThinsliceError("a\x1b[31m\x7fb\x9bc")) == "a?[31m?b?c"
    assert str(ThinsliceError("Größe 5 µm, gut.")) == "Größe 5 µm, gut."


@pytest.mark.parametrize("name", ["a.nrrd", "zlib.mha"])
def test_a_flipped_bit_in_packed_voxels_is_found(name: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / name
    if name == "a.nrrd":
        thinslice.write(smooth_volume(), path)
        start = path.read_bytes().index(b"\n\n") + 12
    else:
        made = sitk.GetImageFromArray(smooth_volume().hu)
        made.SetSpacing((0.8, 0.8, 5.0))
        sitk.WriteImage(made, str(path), True)
        start = path.read_bytes().index(b"LOCAL\n") + 8
    whole = path.read_bytes()
    np.testing.assert_array_equal(thinslice.read(path).hu, smooth_volume().hu)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[int(random.integers(start, len(whole)))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            found = thinslice.read(path)
        except InputError:
            continue
        np.testing.assert_array_equal(found.hu, smooth_volume().hu)


def test_one_voxel_of_all_bits_does_not_change_the_sign_of_a_volume_in_silence(tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(3, 16, 16))
    data = bytearray(made.files[1].read_bytes())
    data[-200:-198] = b"\xff\xff"
    made.files[1].write_bytes(data)
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "linear")
    if outcome.code == 0:
        assert "warning" in outcome.err, "65535 was taken as -1 without a word"
    else:
        assert outcome.code == 3


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_a_data_file_whose_name_no_file_system_permits_is_missing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    long = "x" * 300 + ".raw"
    text = {
        "a.mhd": f"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = {long}\n",
        "a.nhdr": f"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {long}\n\n",
    }
    (tmp_path / name).write_text(text[name])
    with pytest.raises(InputError, match="data file"):
        thinslice.read(tmp_path / name)


def test_a_damaged_name_or_number_in_a_metaimage_is_said_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    path = tmp_path / "a.mhd"
    thinslice.write(smooth_volume(), path)
    whole = path.read_text()
    assert not thinslice.read(path).provenance.warnings
    path.write_text(whole.replace("Offset = 0.0", "Offset = e.0"))
    with pytest.raises(InputError, match="Offset by something that is no number"):
        thinslice.read(path)
    path.write_text(whole.replace("CenterOfRotation", "C0nterOfRotatioj"))
    with pytest.warns(ThinsliceWarning, match="'C0nterOfRotatioj'"):
        thinslice.read(path)
    path.write_text(whole.replace("NDims = 3", "NDims = 3\nKernel = B30f"))
    assert not thinslice.read(path).provenance.warnings, "names of a writer's own are no damage"


def test_an_orientation_code_that_does_not_exist_is_said(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "in" / "a.nii"
    path.parent.mkdir()
    thinslice.write(smooth_volume(), path)
    data = bytearray(path.read_bytes())
    data[252:256] = struct.pack("<hh", -24412, 22548)
    path.write_bytes(data)
    _, report = upscale(run, path, tmp_path / "out" / "thin.nii")
    assert report["warnings"] != []
