"""Small valid inputs of every reader, made by the factories of the tests: no patient's data."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import write_enhanced, write_series
from thinslice.volume import Volume

ENCODINGS = ("explicit", "implicit", "big_endian", "deflated", "rle", "jpeg_ls", "jpeg_2000")
"""Transfer syntaxes of the DICOM seeds, names of the factory."""


@dataclass(frozen=True)
class Seed:
    """A valid input.

    Attributes:
        name: of the seed, for reports.
        files: content by name; every file lies in one folder.
        opened: the name that is given to the reader; "" for the folder.
        mutated: names of the files that are changed.
        sealed_from: the first byte of `mutated[0]` from which on a checksum covers every byte that the voxels depend
            on; None where no checksum covers them.
        voxels_from: the first byte of voxels that no checksum covers and that end the file, by name of the file; of the
            whole dataset where it is deflated.
        coded: "" for plain voxels, "deflated" for a deflated dataset, "encoded" for voxels in a codestream.
    """

    name: str
    files: Mapping[str, bytes]
    opened: str
    mutated: tuple[str, ...]
    sealed_from: int | None = None
    voxels_from: Mapping[str, int] = field(default_factory=dict)
    coded: str = ""

    def write(self, folder: Path, changed: Mapping[str, bytes] | None = None) -> Path:
        """Write the files, those in `changed` with other content, and return the path for the reader."""
        for name, content in self.files.items():
            (folder / name).write_bytes((changed or {}).get(name, content))
        return folder / self.opened if self.opened else folder


def _folder(write: Callable[[Path], object]) -> dict[str, bytes]:
    """The files that `write` makes in an empty folder, whose name never changes, as UIDs are made from it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "seed")
        folder.mkdir()
        write(folder)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _ct_volume() -> Volume:
    """(5, 12, 14) voxels between -1000 and 1500 HU with air and tissue, so that they are plausible as HU."""
    return smooth_volume(depth=5, plane=14)


def dicom() -> list[Seed]:
    """Series of five slices in every transfer syntax that can be made here, and an enhanced multi-frame file."""
    seeds = []
    for number, encoding in enumerate(ENCODINGS):
        signed = number % 2 == 1
        files = _folder(
            lambda place, encoding=encoding, signed=signed: write_series(
                place,
                shape=(5, 32, 32),
                transfer_syntax=encoding,
                signed=signed,
                intercept=0.0 if signed else -1024.0,
                bits_stored=12 if encoding in ("jpeg_ls", "jpeg_2000") and not signed else 16,
            )
        )
        coded = "" if encoding in ("explicit", "implicit", "big_endian") else "encoded"
        if encoding == "deflated":
            coded, voxels = "deflated", {name: _dataset_from(content) for name, content in files.items()}
        else:
            voxels = {name: _pixels_from(content) for name, content in files.items()}
        seeds.append(Seed(encoding, files, "", tuple(files), voxels_from=voxels, coded=coded))
    enhanced = _folder(lambda place: write_enhanced(place / "enhanced.dcm"))
    voxels = {name: _pixels_from(content) for name, content in enhanced.items()}
    seeds.append(Seed("enhanced", enhanced, "", tuple(enhanced), voxels_from=voxels))
    return seeds


def _pixels_from(content: bytes) -> int:
    """Offset of the value of the PixelData of a file, its last element."""
    value: bytes = pydicom.dcmread(io.BytesIO(content)).PixelData
    return content.rindex(value)


def _dataset_from(content: bytes) -> int:
    """Offset of the dataset of a file."""
    return 144 + int(pydicom.dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength)


def archive() -> list[Seed]:
    """A series in a zip (stored and deflated), in a tar, and in a packed tar."""
    series = _folder(lambda place: write_series(place, shape=(4, 12, 12)))
    seeds = []
    for label, method in (("zip stored", zipfile.ZIP_STORED), ("zip deflated", zipfile.ZIP_DEFLATED)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as store:
            for name, content in series.items():
                store.writestr(zipfile.ZipInfo(f"study/{name}"), content, method)
        seeds.append(Seed(label, {"study.zip": packed.getvalue()}, "study.zip", ("study.zip",), sealed_from=0))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tape:
        for name, content in series.items():
            entry = tarfile.TarInfo(f"study/{name}")
            entry.size = len(content)
            tape.addfile(entry, io.BytesIO(content))
    plain = packed.getvalue()
    seeds.append(Seed("tar", {"study.tar": plain}, "study.tar", ("study.tar",)))
    pressed = gzip.compress(plain, mtime=0)
    seeds.append(Seed("tar.gz", {"study.tar.gz": pressed}, "study.tar.gz", ("study.tar.gz",), sealed_from=0))
    return seeds


def _written(name: str) -> dict[str, bytes]:
    """The file of a small volume that the package writes under this name."""
    files = _folder(lambda place: thinslice.write(_ct_volume(), place / name))
    assert set(files) == {name}
    return files


def nifti() -> list[Seed]:
    """NIfTI-1 and NIfTI-2, integers and floats, plain and gzip, one file and a pair."""
    import nibabel

    def save(name: str, dtype: str, kind: type, **options: float) -> dict[str, bytes]:
        def write(place: Path) -> None:
            data = _ct_volume().hu.transpose(2, 1, 0)
            image = kind(data.astype(dtype), np.diag([-0.8, -0.8, 5.0, 1.0]))
            image.header.set_slope_inter(*options.values()) if options else None
            nibabel.save(image, place / name)

        return _folder(write)

    one, two, pair = nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair
    plain = [
        ("int16", save("a.nii", "int16", one)),
        ("float32", save("a.nii", "float32", one)),
        ("uint16 scaled", save("a.nii", "int16", one, slope=1.0, intercept=0.0)),
        ("version 2", save("a.nii", "int16", two)),
    ]
    starts = {"version 2": 544}
    seeds = [
        Seed(label, files, "a.nii", ("a.nii",), voxels_from={"a.nii": starts.get(label, 352)}) for label, files in plain
    ]
    couple = save("a.img", "int16", pair)
    seeds.append(Seed("pair", couple, "a.hdr", ("a.hdr", "a.img"), voxels_from={"a.img": 0}))
    return seeds


def nifti_gz() -> list[Seed]:
    """NIfTI within gzip, where a checksum covers every byte."""
    files = {"a.nii.gz": gzip.compress(nifti()[0].files["a.nii"], mtime=0)}
    own = _written("a.nii.gz")
    return [
        Seed(label, each, "a.nii.gz", ("a.nii.gz",), sealed_from=0) for label, each in (("gzip", files), ("own", own))
    ]


def nrrd() -> list[Seed]:
    """NRRD of the package (gzip), and of SimpleITK plain and gzip."""
    seeds = []
    for label, files in (("own", _written("a.nrrd")), ("plain", _itk("a.nrrd", False)), ("gzip", _itk("a.nrrd", True))):
        start = files["a.nrrd"].index(b"\n\n") + 2
        places = {"voxels_from": {"a.nrrd": start}} if label == "plain" else {"sealed_from": start}
        seeds.append(Seed(label, files, "a.nrrd", ("a.nrrd",), **places))
    return seeds


def metaimage() -> list[Seed]:
    """MetaImage of the package (.mha, .mhd with .zraw), and of SimpleITK, plain and compressed by zlib."""
    own, own_pair = _written("a.mha"), _folder(lambda place: thinslice.write(_ct_volume(), place / "a.mhd"))
    plain, plain_pair, pressed = _itk("a.mha", False), _itk("a.mhd", False), _itk("a.mha", True)
    packed = next(name for name in own_pair if name != "a.mhd")
    return [
        Seed("own mha", own, "a.mha", ("a.mha",), sealed_from=_local(own)),
        Seed("own mhd", own_pair, "a.mhd", (packed, "a.mhd"), sealed_from=0),
        Seed("zlib mha", pressed, "a.mha", ("a.mha",), sealed_from=_local(pressed)),
        Seed("plain mha", plain, "a.mha", ("a.mha",), voxels_from={"a.mha": _local(plain)}),
        Seed("plain mhd", plain_pair, "a.mhd", ("a.mhd", "a.raw"), voxels_from={"a.raw": 0}),
    ]


def _local(files: Mapping[str, bytes]) -> int:
    """Offset of the voxels of an .mha."""
    return files["a.mha"].index(b"LOCAL\n") + len(b"LOCAL\n")


def _itk(name: str, compressed: bool) -> dict[str, bytes]:
    """The same volume written by SimpleITK."""
    import SimpleITK

    def write(place: Path) -> None:
        image = SimpleITK.GetImageFromArray(_ct_volume().hu)
        image.SetSpacing((0.8, 0.8, 5.0))
        SimpleITK.WriteImage(image, str(place / name), compressed)

    return _folder(write)


def weights() -> list[Seed]:
    """Weights files of a small network, as the package writes them."""
    import torch

    from thinslice.models import catalog, checkpoint

    torch.manual_seed(0)
    shape = {"encoder_blocks": 1, "through_plane_blocks": 1, "decoder_groups": 1, "depth": 2, "features": 2, "heads": 2}
    network = catalog.build("tvsrn", **shape, factor=2)
    card = {"name": "small", "version": "1", "licences": ["none"], "scores": {"psnr": 30.5}}
    files = _folder(lambda place: checkpoint.save(network, place / "a.safetensors", architecture="tvsrn", card=card))
    return [Seed("tvsrn", files, "a.safetensors", ("a.safetensors",), sealed_from=0)]


def recipes() -> list[Seed]:
    """Recipes of small networks of every kind of training, and a suite."""
    root = Path(__file__).resolve().parents[1]
    places = [root / "recipes" / f"{name}.toml" for name in ("default", "released-tvsrn", "saint", "thinnet")]
    places.append(root / "suites" / "mini.toml")
    return [Seed(path.stem, {"a.toml": path.read_bytes()}, "a.toml", ("a.toml",)) for path in places]


def cards() -> list[Seed]:
    """JSON files that a user gives or keeps: a slice profile and a leaderboard."""
    profile = {
        "format": "thinslice-slice-profile-1",
        "offsets_mm": [-5.0, -2.5, 0.0, 2.5, 5.0],
        "weights": [0.0, 0.5, 1.0, 0.5, 0.0],
        "thick_spacing_mm": 5.0,
    }
    board = {"schema": "thinslice-leaderboard/1", "notice": "", "rows": []}
    return [
        Seed(name, {"a.json": json.dumps(value, indent=1).encode()}, "a.json", ("a.json",))
        for name, value in (("profile", profile), ("leaderboard", board))
    ]
