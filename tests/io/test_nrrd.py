"""NRRD and MetaImage: written by us, read by SimpleITK, and the other way round."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from thinslice.errors import GeometryError, InputError, MissingExtraError, ResourceError, UnreadableError
from thinslice.geometry import POSITION_TOLERANCE_MM, Geometry
from thinslice.io.files import read, write
from thinslice.io.nrrd import read_itk
from thinslice.volume import Provenance, Volume

itk = pytest.importorskip("SimpleITK")

SUFFIXES = [".nrrd", ".mha", ".mhd"]


def turned(shape, angles=(10.0, 20.0, 30.0), axes=(2, 1, 0), dtype=np.int16):
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    hu = np.random.default_rng(1).integers(-1024, 3000, shape).astype(dtype)
    if dtype == np.float32:
        hu += np.float32(0.25)
    geometry = Geometry(shape, (5.0, 0.7, 0.6), (-100.25, 200.5, 33.125), tuple(map(tuple, direction)))
    return Volume(hu, geometry, Provenance(file_axes=axes))


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    axes=st.sampled_from([(2, 1, 0), (1, 2, 0), (0, 2, 1)]),
    dtype=st.sampled_from([np.int16, np.float32]),
)
def test_simpleitk_and_we_read_back_what_was_written(suffix, shape, angles, axes, dtype, tmp_path_factory):
    path = tmp_path_factory.mktemp("law") / f"case{suffix}"
    volume = turned(shape, angles, axes, dtype)
    write(volume, path)

    again = read(path)
    assert again.hu.dtype == volume.hu.dtype
    np.testing.assert_array_equal(again.hu, volume.hu)
    assert again.provenance.file_axes == axes

    image = itk.ReadImage(str(path))
    for index in itertools.product(*[(0, n - 1) for n in shape]):
        file_index = [0, 0, 0]
        for value, axis in zip(index, axes, strict=True):
            file_index[axis] = value
        want = np.array(volume.geometry.position_mm(index))
        assert np.abs(np.array(image.TransformIndexToPhysicalPoint(file_index)) - want).max() <= POSITION_TOLERANCE_MM
        assert np.abs(np.array(again.geometry.position_mm(index)) - want).max() <= POSITION_TOLERANCE_MM
        assert image[file_index] == volume.hu[index]


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_files_of_simpleitk_are_read(suffix, compressed, tmp_path):
    volume = turned((4, 5, 6))
    image = itk.GetImageFromArray(volume.hu)
    direction = np.array(volume.geometry.direction)[:, ::-1]
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing((0.6, 0.7, 5.0))
    image.SetOrigin(volume.geometry.origin_mm)
    itk.WriteImage(image, str(tmp_path / f"case{suffix}"), compressed)
    again = read(tmp_path / f"case{suffix}")
    np.testing.assert_array_equal(again.hu, volume.hu)
    assert not again.provenance.warnings
    np.testing.assert_allclose(
        again.geometry.position_mm((3, 4, 5)), volume.geometry.position_mm((3, 4, 5)), atol=POSITION_TOLERANCE_MM
    )


def nrrd_text(**changed: str) -> bytes:
    fields = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "2 3 4",
        "space directions": "(0.7,0,0) (0,0.7,0) (0,0,5)",
        "encoding": "raw",
        "endian": "little",
        "space origin": "(0,0,0)",
        **{key.replace("_", " "): value for key, value in changed.items()},
    }
    lines = ["NRRD0004", *[f"{key}: {value}" for key, value in fields.items() if value]]
    return ("\n".join(lines) + "\n\n").encode()


def test_right_anterior_superior_is_turned_into_left_posterior_superior(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(nrrd_text(space="right-anterior-superior", space_origin="(1,2,3)") + bytes(48))
    geometry = read(tmp_path / "a.nrrd").geometry
    assert geometry.origin_mm == (-1.0, -2.0, 3.0)
    np.testing.assert_allclose(geometry.position_mm((1, 0, 0)), (-1.0, -2.0, 8.0))
    np.testing.assert_allclose(geometry.position_mm((0, 0, 1)), (-1.7, -2.0, 3.0))


def test_isotropic_spacing_and_missing_orientation_give_warnings(tmp_path):
    text = nrrd_text(space="", space_directions="", space_origin="", spacings="1 1 1")
    (tmp_path / "a.nrrd").write_bytes(text + bytes(48))
    provenance = read(tmp_path / "a.nrrd").provenance
    assert provenance.details["axis_ambiguous"] is True
    assert any("orientation" in warning for warning in provenance.warnings)
    assert read(tmp_path / "a.nrrd", axis=1).provenance.file_axes == (1, 2, 0)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"sizes": "2 3 4000000"}, UnreadableError),
        ({"sizes": "30000 30000 30000"}, UnreadableError),
        ({"sizes": "2 3 0"}, UnreadableError),
        ({"sizes": "2 3 5"}, UnreadableError),
        ({"type": "nonsense"}, UnreadableError),
        ({"encoding": "unheard-of"}, UnreadableError),
        ({"data_file": "../elsewhere.raw"}, UnreadableError),
        ({"data_file": "/etc/passwd"}, UnreadableError),
        ({"data_file": "LIST"}, UnreadableError),
        ({"data_file": "slice%03d.raw 1 4 1"}, UnreadableError),
        ({"data_file": "absent.raw"}, UnreadableError),
        ({"space_directions": "(0.7,0,0) (0,0.7,0) (0,1,5)"}, InputError),
        ({"space_directions": "(0.7,0,0) (0,0.7,0) (0,0,nan)"}, InputError),
    ],
)
def test_hostile_and_damaged_nrrd_is_refused(changed, error, tmp_path):
    path = tmp_path / "case.nrrd"
    path.write_bytes(nrrd_text(**changed) + bytes(48))
    with pytest.raises(error, match="case"):
        read(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_file_cut_short_is_refused(suffix, compressed, keep, tmp_path):
    image = itk.GetImageFromArray(turned((10, 20, 30)).hu)
    itk.WriteImage(image, str(tmp_path / f"case{suffix}"), compressed)
    largest = max(tmp_path.iterdir(), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(UnreadableError, match="case"):
        read(tmp_path / f"case{suffix}")


def test_the_text_these_faults_are_made_of_is_itself_sound(tmp_path):
    (tmp_path / "case.nrrd").write_bytes(nrrd_text() + bytes(48))
    assert read(tmp_path / "case.nrrd").geometry.shape == (4, 3, 2)


META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = {size}\nElementSpacing = 0.7 0.7 5\n"


@pytest.mark.parametrize(
    "rest",
    [
        ("30000 30000 30000", "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"),
        ("2 3 4", "ElementType = MET_SHORT\nElementDataFile = /etc/passwd\n"),
        ("2 3 4", "ElementType = MET_SHORT\nElementDataFile = ../a.raw\n"),
        ("2 3 4", "ElementType = MET_SHORT\nElementDataFile = LIST\na.raw\n"),
        ("2 3 4", "ElementType = MET_SHORT\n"),
        ("2 3 4", "ElementNumberOfChannels = 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"),
    ],
)
def test_hostile_and_damaged_metaimage_is_refused(rest, tmp_path):
    path = tmp_path / "case.mha"
    path.write_bytes((META.format(size=rest[0]) + rest[1]).encode() + bytes(72))
    with pytest.raises(UnreadableError, match="case"):
        read(path)


def test_a_metaimage_without_orientation_is_read_with_a_warning(tmp_path):
    text = META.format(size="2 3 4") + "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "case.mha").write_bytes(text.encode() + bytes(48))
    volume = read(tmp_path / "case.mha")
    assert volume.geometry.shape == (4, 3, 2)
    assert any("orientation" in warning for warning in volume.provenance.warnings)


def test_colour_and_several_frames_are_refused_one_frame_is_not(tmp_path):
    colour = itk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    itk.WriteImage(colour, str(tmp_path / "colour.nrrd"))
    frames = itk.GetImageFromArray(np.zeros((2, 4, 5, 6), np.int16), isVector=False)
    itk.WriteImage(frames, str(tmp_path / "frames.nrrd"))
    for name in ("colour", "frames"):
        with pytest.raises(UnreadableError, match="not one volume"):
            read(tmp_path / f"{name}.nrrd")
    single = itk.GetImageFromArray(np.ones((1, 4, 5, 6), np.int16), isVector=False)
    itk.WriteImage(single, str(tmp_path / "single.nrrd"))
    assert read(tmp_path / "single.nrrd").geometry.shape == (4, 5, 6)


def test_shear_is_refused(tmp_path):
    image = itk.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
    image.SetSpacing((0.7, 0.7, 5.0))
    itk.WriteImage(image, str(tmp_path / "case.mha"))
    content = (tmp_path / "case.mha").read_bytes()
    sheared = content.replace(b"1 0 0 0 1 0 0 0 1", b"1 0 0 0 1 0 0 1 1")
    assert sheared != content
    (tmp_path / "case.mha").write_bytes(sheared)
    with pytest.raises(GeometryError, match="on_tilt='resample'"):
        read(tmp_path / "case.mha", axis=2)


def test_memory_is_asked_for_before_it_is_taken(tmp_path, monkeypatch):
    from thinslice.system import resources

    (tmp_path / "case.nrrd").write_bytes(nrrd_text() + bytes(48))
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 1 << 10)
    with pytest.raises(ResourceError):
        read(tmp_path / "case.nrrd")


def test_without_simpleitk_the_extra_is_named_and_writing_still_works(tmp_path, monkeypatch):
    volume = turned((3, 4, 5))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    write(volume, tmp_path / "case.nrrd")
    with pytest.raises(MissingExtraError, match="pip install SimpleITK"):
        read_itk(tmp_path / "case.nrrd")


def test_itk_keeps_its_complaints_to_itself(tmp_path):
    """A damaged file brings one sentence of ours and nothing else on the terminal: ITK would print whole paths."""
    (tmp_path / "case.nrrd").write_bytes(nrrd_text(sizes="2 3 5") + bytes(48))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, thinslice\n"
            "try: thinslice.read(sys.argv[1])\n"
            "except thinslice.ThinsliceError: print('refused')",
            str(tmp_path / "case.nrrd"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "refused\n"
    assert str(tmp_path) not in done.stderr


def test_a_real_scan_keeps_its_values_and_place(shared: Path, tmp_path: Path):
    volume = read(shared / "ct" / "pair" / "phantom_thick_5mm.nii.gz")
    write(volume, tmp_path / "case.nrrd")
    again = read(tmp_path / "case.nrrd")
    np.testing.assert_array_equal(again.hu, volume.hu)
    np.testing.assert_allclose(
        again.geometry.position_mm((11, 511, 511)),
        volume.geometry.position_mm((11, 511, 511)),
        atol=POSITION_TOLERANCE_MM,
    )


@pytest.mark.parametrize("field", ["Offset", "TransformMatrix", "ElementSpacing"])
def test_a_metaimage_without_a_field_of_its_place_is_said(field: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    write(turned((4, 5, 6)), path)
    lines = path.read_bytes()
    assert not any("a default was taken" in text for text in read(path).provenance.warnings)
    path.write_bytes(lines.replace(field.encode(), b"X" + field.encode()[1:], 1))
    assert any(f"no {field}, so a default was taken" in text for text in read(path).provenance.warnings)
