"""Options that several commands share, each declared once; imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BackendName(StrEnum):
    """Values of --backend."""

    AUTO = "auto"
    TORCH = "torch"
    TORCH_COMPILE = "torch-compile"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    NUMPY = "numpy"


class IntensityName(StrEnum):
    """Unit of the voxels."""

    AUTO = "auto"
    HU = "hu"
    UNIT = "unit"


class OnFaultName(StrEnum):
    """Treatment of a grid that is not regular."""

    REFUSE = "refuse"
    RESAMPLE = "resample"


Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="default, fast, best, another network of 'thinslice models list', or a weights file.",
    ),
]
Factor = Annotated[
    int | None, typer.Option(metavar="N", help="Thin slices per thick interval, 2 to 8. Not with --spacing.")
]
Spacing = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Distance of thin slices in mm, met exactly. Unless set: the whole factor that comes nearest to 1 mm.",
    ),
]
Plan = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Window plan: overlap, released or paper. The model's own unless set."),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where the network runs.")]
Backend = Annotated[BackendName, typer.Option(help="Library that runs the network.")]
Series = Annotated[
    str | None,
    typer.Option(
        "--series",
        "--series-uid",
        metavar="N|UID",
        help="Which series, where INPUT holds several: its number in 'thinslice inspect', its UID, or a part of the "
        "UID that no other series has.",
    ),
]
Axis = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Through-plane axis (0, 1 or 2) of a NIfTI, NRRD or MetaImage whose spacings do not show it.",
    ),
]
OnTilt = Annotated[
    OnFaultName,
    typer.Option("--on-tilt", help="Treatment of a gantry tilt (in a NIfTI: of a shear): resample removes it."),
]
OnSpacing = Annotated[
    OnFaultName,
    typer.Option("--on-spacing", help="Treatment of a spacing that changes in DICOM: resample takes the finer one."),
]
Intensity = Annotated[
    IntensityName,
    typer.Option(
        help="Unit of the voxels. auto: HU, refused where they certainly are not; hu: HU in any case; unit: "
        "[-1024, 2048] HU scaled to [0, 1] (the result is in HU)."
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json",
        help="Slice profile of 'thinslice dataset profile'; a box of the slice thickness unless set.",
    ),
]
Texture = Annotated[
    bool,
    typer.Option(
        "--texture",
        help="Add synthetic noise of the size and spectrum of the scan's own: for measuring (lung density, radiomics), "
        "never for reading small structures.",
    ),
]
TextureSeed = Annotated[
    int, typer.Option("--texture-seed", metavar="N", min=0, help="Another seed gives other noise of the same kind.")
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; all cores unless set.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Deidentify = Annotated[
    bool,
    typer.Option(
        "--deidentify",
        help="Leave the patient's identity out of DICOM outputs (PS3.15, basic profile). Pixels stay as they are.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on when memory looks short. Never past a fault in the input's geometry.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
