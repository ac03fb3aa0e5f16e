"""Write page/test/fixture.json: what the package makes of small inputs, for the tests of the page's arithmetic.

    python tools/page_fixture.py           # writes the file
    python tools/page_fixture.py --check   # exit 1 where the file is not what the package gives

The page computes in TypeScript what `thinslice upscale` computes in Python; its tests compare the two.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from thinslice.continuity import continuity_warnings
from thinslice.inference.consistency import ConsistencyMeter, clamp_consistently
from thinslice.inference.restore import Restorer, network_input
from thinslice.intensity import to_hu
from thinslice.io.nifti import NiftiSlabWriter, read_nifti
from thinslice.io.padding import padding_below_window
from thinslice.models.thinnet_config import description
from thinslice.planning import overlap
from thinslice.planning.spans import ModelWindow, Span
from thinslice.planning.windows import profile_reach
from thinslice.plausibility import examine
from thinslice.profile import SliceProfile

FILE = Path(__file__).parents[1] / "page" / "test" / "fixture.json"

SEED = 20261128


def profiles() -> list[dict[str, Any]]:
    """Slice profiles with what follows from them."""
    return [
        {
            "factor": factor,
            "width": width,
            "weights": profile.weights,
            "extent": profile.width,
            "exact": profile.exact(9),
            "supported": [profile.supported(9).start, profile.supported(9).stop],
            "correction": np.round(profile.correction(9), 9).tolist(),
            "reach": profile_reach(profile),
            "condition": np.round(description(factor, profile).condition, 6).tolist(),
            "positions": np.round(description(factor, profile).positions, 6).ravel().tolist(),
            "damping": round(float(description(factor, profile).damping), 9),
        }
        for factor, width in ((5, 1.0), (2, 1.0), (4, 1.5), (3, 2.0), (5, 0.5))
        for profile in [SliceProfile.mean(factor, width=width)]
    ]


def clamping() -> list[dict[str, Any]]:
    """Thin slices beyond [0, 1], before and after clamping."""
    rng = np.random.default_rng(SEED)
    cases = []
    for factor, width in ((5, 1.0), (4, 1.0), (3, 2.0)):
        profile = SliceProfile.mean(factor, width=width)
        depth, plane = 6, (3, 8)
        thin = rng.normal(0.02, 0.05, ((depth - 1) * factor + 1, *plane)).astype(np.float32)
        thick = np.zeros((depth, *plane), np.float32)
        rows = profile.supported(depth)
        thick[rows.start : rows.stop] = np.tensordot(profile.matrix(depth), thin, 1)
        thick = np.clip(thick, 0.0, 1.0)
        thick[3, 0, 0] = 1.0
        clamped = thin.copy()
        clamp_consistently(clamped, thick, profile)
        cases.append(
            {
                "factor": factor,
                "width": width,
                "depth": depth,
                "thick": thick.ravel().tolist(),
                "thin": thin.ravel().tolist(),
                "clamped": clamped.ravel().tolist(),
            }
        )
    return cases


def restoring() -> list[dict[str, Any]]:
    """Thick HU with metal and padding, a thin estimate inside the window, and the finished slices."""
    rng = np.random.default_rng(SEED)
    cases = []
    for factor, padding in ((4, -2000.0), (5, None)):
        thick = rng.integers(-1100, 2500, (4, 2, 5)).astype(np.int16)
        thick[1, 0, 0] = thick[2, 1, 1] = -2000
        estimate = rng.uniform(-0.02, 1.02, ((4 - 1) * factor + 1, 2, 5)).astype(np.float32)
        restorer = Restorer(thick, factor, padding, np.int16)
        finished = restorer.finish(0, to_hu(np.clip(estimate, 0, 1)))
        meter = ConsistencyMeter(SliceProfile.mean(factor).rows(4), thick, padding_hu=padding)
        meter.add(finished)
        cases.append(
            {
                "factor": factor,
                "paddingHu": padding,
                "thick": thick.ravel().tolist(),
                "input": network_input(thick, padding).ravel().tolist(),
                "estimate": estimate.ravel().tolist(),
                "finished": finished.ravel().tolist(),
                "outside": restorer.voxels_outside_window,
                "rmsHu": meter.rms_hu,
            }
        )
    return cases


def span(value: Span) -> list[int]:
    """A span as the page's tests take it."""
    return [value.start, value.stop, value.out_start, value.out_stop, value.trim]


def cuts() -> dict[str, Any]:
    """Windows along one axis."""
    window = ModelWindow(halo=(7, 13, 13))
    return {
        "planes": [
            {"pixels": pixels, "size": size, "count": count, "spans": [span(each) for each in spans]}
            for pixels in (344, 466, 512, 777)
            for count in (1, 2, 3)
            for size in [pixels if count == 1 else overlap._window_size(pixels, count, 13)]
            for spans in [overlap._equal(pixels, size, count)]
        ],
        "depths": [
            {
                "depth": depth,
                "count": count,
                "spans": [span(each) for each in overlap._depths(depth, 5, window, count)],
            }
            for depth, count in ((2, 1), (64, 1), (64, 2), (120, 5))
        ],
    }


def plausible() -> list[dict[str, Any]]:
    """Values of several kinds, and what the package states about them."""
    rng = np.random.default_rng(SEED)
    tissue = np.concatenate([rng.normal(mean, 12, 400) for mean in (-1000, -850, -100, 40)])
    samples = {
        "hu": np.rint(tissue),
        "unit": rng.uniform(0, 1, 300),
        "signed unit": rng.uniform(-1, 1, 300),
        "normalised": rng.normal(0, 1.5, 300),
        "labels": rng.integers(0, 5, 300),
        "8 bit": rng.integers(0, 256, 600),
        "wrapped": np.append(np.rint(tissue), [32000] * 20),
        "masked": np.append(np.rint(tissue), [0] * 900),
        "raw": np.rint(np.abs(rng.normal(1060, 20, 900))),
        "shifted": np.rint(tissue - 1000),
        "other": rng.integers(0, 900, 900),
        "beyond": np.append(np.rint(tissue), [-5000, -4000]),
        "empty": np.full(20, 7),
    }
    cases = []
    for name, values in samples.items():
        found = examine(np.asarray(values, np.float32))
        cases.append(
            {
                "name": name,
                "values": np.asarray(values, np.float32).tolist(),
                "kind": found.kind,
                "refused": found.is_refused,
                # The page has no option to state another unit.
                "sentence": None if found.kind == "unit" else found.sentence(),
            }
        )
    return cases


def continuity() -> list[dict[str, Any]]:
    """Volumes whose slices do not fit."""
    rng = np.random.default_rng(SEED)
    smooth = np.rint(rng.normal(40, 5, (7, 16, 20)) + np.linspace(-900, 100, 20)).astype(np.int16)
    foreign, repeated = smooth.copy(), smooth.copy()
    foreign[3] = foreign[3][:, ::-1]
    repeated[5] = repeated[4]
    return [
        {"shape": hu.shape, "hu": hu.ravel().tolist(), "warnings": continuity_warnings(hu)}
        for hu in (smooth, foreign, repeated)
    ]


def files() -> list[dict[str, Any]]:
    """NIfTI files as they come, as the package reads them, and the header of what it writes."""
    rng = np.random.default_rng(SEED)
    voxels = rng.integers(-1000, 1500, (6, 5, 4)).astype(np.int16)
    turned = np.array([[0.0, 0.6, 2.4, -20], [0.0, 0.8, -1.8, 10], [0.7, 0, 0, 5], [0, 0, 0, 1]])
    turned[:3, 1] *= 0.9
    plain = np.diag([0.7, 0.9, 5.0, 1.0])

    def written(header: Any) -> dict[str, Any]:
        image = nib.Nifti1Image(voxels, None, header)
        stored = io.BytesIO()
        image.to_stream(stored)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.nii"
            path.write_bytes(stored.getvalue())
            volume = read_nifti(path)
            thin = volume.geometry.thin_grid(3)
            writer = NiftiSlabWriter(Path(folder) / "b.nii", thin, volume.provenance, hu_range=(-1024, 2048))
            head = bytearray(writer.header())
        head[148:228] = bytes(80)  # The version changes; the page's test leaves the description out too.
        return {
            "file": base64.b64encode(stored.getvalue()).decode(),
            "shape": volume.geometry.shape,
            "spacingMm": volume.geometry.spacing_mm,
            "originMm": volume.geometry.origin_mm,
            "direction": volume.geometry.direction,
            "axes": volume.provenance.file_axes,
            "hu": np.asarray(volume.hu).ravel().tolist(),
            "paddingHu": padding_below_window(volume.hu),
            "warnings": volume.provenance.warnings,
            "thinHeader": base64.b64encode(bytes(head)).decode(),
        }

    cases = []
    for sform, qform, scaled in (
        (plain, plain, False),
        (turned, None, False),
        (None, turned, True),
        (None, None, False),
    ):
        header = nib.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape(voxels.shape)
        header.set_zooms((0.7, 0.9, 5.0))
        if sform is not None:
            header.set_sform(sform, code=2)
        if qform is not None:
            header.set_qform(qform, code=1)
        if scaled:
            header.set_slope_inter(2.0, -24.0)
        cases.append(written(header))
    return cases


def dicom() -> list[dict[str, Any]]:
    """DICOM files whose headers state a slice thickness after sequences of known and unknown length."""
    cases = []
    for encoding, implicit, little, undefined in (
        ("explicit", False, True, False),
        ("explicit, undefined lengths", False, True, True),
        ("implicit", True, True, True),
        ("big endian", False, False, True),
    ):
        inner = Dataset()
        inner.SliceThickness = 99
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
        dataset.ReferencedImageSequence = [inner, inner]
        dataset["ReferencedImageSequence"].is_undefined_length = undefined
        for item in dataset.ReferencedImageSequence:
            item.is_undefined_length_sequence_item = undefined
        dataset.SliceThickness, dataset.SeriesNumber = "2.5", 7
        stored = io.BytesIO()
        dcmwrite(stored, dataset, enforce_file_format=True)
        cases.append({"encoding": encoding, "file": base64.b64encode(stored.getvalue()).decode()})
    return cases


def fixture() -> str:
    """The file's text."""
    values = {
        "profiles": profiles(),
        "clamping": clamping(),
        "restoring": restoring(),
        "cuts": cuts(),
        "plausible": plausible(),
        "continuity": continuity(),
        "files": files(),
        "dicom": dicom(),
    }
    return json.dumps(values, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        raise SystemExit(FILE.read_text(encoding="utf-8") != fixture())
    FILE.write_text(fixture(), encoding="utf-8")
