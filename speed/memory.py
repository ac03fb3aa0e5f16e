"""The memory estimated before a run beside the peak memory of the run, for whole commands of many shapes.

    python speed/memory.py [--only WORD] [--json FILE] [--folder FOLDER]      # the table
    python speed/memory.py --large [--depth 400]                              # 1024 x 1024 x 400 within 4 GiB

Each run is a whole command in its own process, on a synthetic round body of noise in air. The estimate is printed by
the command before it starts; the measurement is the highest resident memory of the process. Untrained networks have
random weights, which take as much memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.geometry import Geometry
from thinslice.io.files import open_writer
from thinslice.volume import Provenance

MOST = 1.25
"""Limit of estimated over measured memory and of its inverse; above it this program fails."""

LARGE_MOST_MIB = 4096
"""Memory limit for a volume of 1024 x 1024 x 400 thick voxels."""


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        shape: shape of the thick volume, (depth, height, width).
        model: name of the model.
        format: format of input and output: "nifti" (.nii.gz) or "dicom".
        backend: name of the backend.
        deviation: "learned" or "ensemble" where standard deviations are written too.
        factor: thin slices per thick interval.
    """

    shape: tuple[int, int, int]
    model: str = "default"
    format: str = "nifti"
    backend: str = "auto"
    deviation: str = ""
    factor: int = 5

    @property
    def runs_here(self) -> bool:
        """Whether the backend is installed."""
        return self.backend != "openvino" or importlib.util.find_spec("openvino") is not None

    def __str__(self) -> str:
        line = f"{' x '.join(map(str, self.shape)):17} {self.model:17} {self.format:6} {self.backend}"
        return line + f" {self.deviation}" * bool(self.deviation) + f" x {self.factor}" * (self.factor != 5)


CASES = (
    Case((8, 256, 256)),
    Case((64, 256, 256)),
    Case((64, 256, 256), backend="openvino"),
    Case((24, 344, 466)),
    Case((64, 344, 466)),
    Case((64, 344, 466), "cubic-consistent"),
    Case((8, 512, 512)),
    Case((24, 512, 512)),
    Case((64, 512, 512)),
    Case((64, 512, 512), backend="openvino"),
    Case((64, 512, 512), format="dicom"),
    Case((64, 512, 512), "cubic-consistent"),
    Case((64, 512, 512), "cubic-consistent", "dicom"),
    Case((64, 512, 512), "fast"),
    Case((64, 512, 512), "fast", backend="openvino"),
    Case((64, 512, 512), "best"),
    Case((24, 512, 512), "best", backend="torch"),
    Case((24, 768, 768)),
    Case((64, 768, 768), "cubic-consistent"),
    Case((8, 1024, 1024)),
    Case((24, 1024, 1024)),
    Case((24, 1024, 1024), backend="openvino"),
    Case((24, 1024, 1024), "cubic-consistent"),
    Case((8, 1024, 1024), format="dicom"),
    Case((4, 256, 256), "tvsrn-released"),
    Case((64, 256, 256), backend="torch", deviation="learned"),
    Case((64, 512, 512), backend="torch", deviation="learned"),
    Case((16, 256, 256), "fast", backend="torch", deviation="ensemble", factor=8),
    Case((48, 256, 256), "cubic-consistent", deviation="ensemble"),
    Case((48, 256, 256), "cubic-consistent", deviation="ensemble", factor=8),
)


def write_body(path: Path, shape: tuple[int, int, int], *, dicom: bool) -> Path:
    """A noisy disc of water in noisy air, slices 5 mm apart; a folder of DICOM or a NIfTI file."""
    depth, height, width = shape
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = np.where(rows**2 + columns**2 < 0.8, 40.0, -985.0)
    random = np.random.default_rng(0)
    if dicom:
        path.mkdir()
        for k in range(depth):
            _write_slice(path / f"{k:04d}.dcm", (body + random.normal(0, 25, body.shape)).astype(np.int16), k)
        return path
    with open_writer(path, Geometry(shape, (5.0, 0.7, 0.7)), Provenance(), hu_range=(-2000, 2000)) as writer:
        for _ in range(depth):
            writer.write((body + random.normal(0, 25, body.shape)).astype(np.int16)[None])
    return path


def _write_slice(path: Path, hu: np.ndarray, k: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"1.2.826.0.1.3680043.8.498.1.{k + 1}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4"
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Noise^Round", "noise"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber, dataset.ImagePositionPatient = k + 1, [0, 0, 5 * k]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], ["0.7", "0.7"]
    dataset.SliceThickness, dataset.RescaleSlope, dataset.RescaleIntercept = "5", "1", "0"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_pixel_data(hu, "MONOCHROME2", 16, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def write_weights(path: Path, architecture: str) -> Path:
    """An untrained network as a weights file."""
    from thinslice.models import catalog, checkpoint

    checkpoint.save(catalog.build(architecture), path, architecture=architecture, card={"name": architecture})
    return path


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Seconds, backend, and estimated and measured MiB of one command."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        here, dicom = Path(place), case.format == "dicom"
        source = write_body(here / ("thick" if dicom else "thick.nii.gz"), case.shape, dicom=dicom)
        untrained = case.model == "tvsrn-released"
        model = str(write_weights(here / "weights.safetensors", case.model)) if untrained else case.model
        output, report = here / ("thin" if dicom else "thin.nii.gz"), here / "report.json"
        extra = ["--factor", str(case.factor), "--backend", case.backend, "--report", str(report), "--quiet"]
        if case.deviation:
            extra += ["--uncertainty", str(here / "deviation.nii.gz"), "--uncertainty-by", case.deviation]
        command = [sys.executable, "-m", "thinslice", "upscale", str(source), str(output), "--model", model]
        subprocess.run([*command, *extra], check=True)
        values = json.loads(report.read_text(encoding="utf-8"))
    estimated, measured = values["expected_memory_mib"], values["peak_memory_mib"]
    return {
        "estimated_mib": estimated,
        "measured_mib": measured,
        "estimated_over_measured": estimated / measured,
        "seconds": values["seconds"]["total"],
        "backend": values["backend"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only cases whose line contains this word")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="folder for written files")
    parser.add_argument("--large", action="store_true", help="only one volume of 1024 x 1024 slices")
    parser.add_argument("--depth", type=int, default=400, help="thick slices of the large volume")
    options = parser.parse_args()
    cases = (Case((options.depth, 1024, 1024)),) if options.large else CASES
    folder = options.folder or Path(tempfile.gettempdir())
    results, failed = {}, False
    print(f"{'depth x height x width, model, files':66} estimated  measured  ratio      time  backend")
    for case in cases:
        if options.only not in str(case):
            continue
        if not case.runs_here:
            print(f"{case!s:66}{'OpenVINO is not installed':>40}")
            continue
        figures = results[str(case)] = run(case, folder)
        estimated, measured = figures["estimated_mib"], figures["measured_mib"]
        ratio = figures["estimated_over_measured"]
        failed |= not 1 / MOST <= ratio <= MOST or (options.large and measured > LARGE_MOST_MIB)
        line = f"{case!s:66}{estimated:10.0f}{measured:10.0f}{ratio:7.2f}{figures['seconds']:8.1f} s"
        print(f"{line}  {figures['backend']}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    main()
