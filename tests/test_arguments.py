"""Every argument of every public function, given everything that it does not take: a thinslice error each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import thinslice
from thinslice.errors import ThinsliceError
from thinslice.models.load import load_model

WRONG: dict[str, Any] = {
    "None": None,
    "object": object(),
    "class": dict,
    "function": len,
    "true": True,
    "zero": 0,
    "negative": -3,
    "large": 10**400,
    "fraction": 2.5,
    "nan": float("nan"),
    "infinite": float("inf"),
    "numeral": "5",
    "text": "no such thing",
    "blank": "",
    "NUL": "a\0b",
    "bytes": b"scan",
    "path": Path("no such path"),
    "list": [],
    "list of objects": [object()],
    "list of texts": ["a", "b", "c"],
    "dict": {"a": 1},
    "set": {1, 2, 3},
    "complex": 1j,
    "scalar array": np.float32(3.5) * np.ones(()),
    "array": np.zeros((3, 4, 5), np.float32),
    "array of objects": np.array([[[object()]]], dtype=object),
    "array of texts": np.array([[["a"]]]),
    "array of complex": np.ones((3, 4, 5), complex),
    "empty array": np.zeros((0, 4, 5)),
    "ragged": [[1, 2], [3]],
    "masked": np.ma.masked_less(np.zeros((3, 4, 5)), 1),
    "image": nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.diag([0.7, 0.7, 5.0, 1.0])),
}
"""Values to give; `TAKEN` holds those that a function takes all the same."""

SPACING = (5.0, 0.7, 0.7)


def thick() -> thinslice.Volume:
    """Five thick slices of noise around tissue."""
    hu = np.random.default_rng(0).normal(0, 300, (5, 6, 7)).astype(np.int16)
    return thinslice.Volume.from_array(hu, spacing_mm=SPACING)


THICK = thick()
THIN = thinslice.upscale(THICK, model="linear", factor=5)
LABELS = thinslice.Volume(np.zeros(THICK.shape, np.int16), THICK.geometry)
GRID = THICK.geometry
LINEAR = load_model("linear")

CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "read": (thinslice.read, {"path": "thick.nii"}),
    "write": (thinslice.write, {"volume": THICK, "path": "out.nii"}),
    "inspect": (thinslice.inspect, {"path": "thick.nii"}),
    "load_model": (thinslice.load_model, {"name_or_path": "linear"}),
    "upscale": (thinslice.upscale, {"volume": THICK, "model": "linear"}),
    "upscale_slabs": (thinslice.upscale_slabs, {"volume": THICK, "model": "linear"}),
    "upscale_with_uncertainty": (
        thinslice.upscale_with_uncertainty,
        {"volume": THICK, "model": "linear", "uncertainty": "ensemble"},
    ),
    "upscale_labels": (thinslice.upscale_labels, {"labels": LABELS, "thin": THIN}),
    "check": (thinslice.check, {"volume": THICK, "model": "linear"}),
    "evaluate": (thinslice.evaluate, {"estimate": THIN, "reference": THIN}),
    "preview": (thinslice.preview, {"thick": THICK, "thin": THIN}),
    "show": (thinslice.show, {"thick": THICK, "thin": THIN}),
    "Geometry": (thinslice.Geometry, {"shape": (3, 4, 5), "spacing_mm": SPACING}),
    "Geometry.position_mm": (GRID.position_mm, {"index": (0, 0, 0)}),
    "Geometry.index_at": (GRID.index_at, {"position_mm": (0, 0, 0)}),
    "Geometry.thin_grid": (GRID.thin_grid, {"factor": 2}),
    "Geometry.respaced": (GRID.respaced, {"spacing_mm": 1.0, "slices": 9}),
    "Geometry.crop": (GRID.crop, {"start": (0, 0, 0), "stop": (2, 2, 2)}),
    "Provenance": (thinslice.Provenance, {}),
    "Volume": (thinslice.Volume, {"hu": THICK.hu, "geometry": GRID}),
    "Volume.crop": (THICK.crop, {"start": (0, 0, 0), "stop": (2, 2, 2)}),
    "Volume.from_array": (thinslice.Volume.from_array, {"hu": THICK.hu, "spacing_mm": SPACING}),
    "Volume.from_nibabel": (thinslice.Volume.from_nibabel, {"image": WRONG["image"]}),
    "Volume.from_sitk": (thinslice.Volume.from_sitk, {"image": WRONG["image"]}),
    "Volume.from_torchio": (thinslice.Volume.from_torchio, {"image": WRONG["image"]}),
    "Volume.from_monai": (thinslice.Volume.from_monai, {"tensor": WRONG["image"]}),
    "SliceProfile": (thinslice.SliceProfile, {"name": "mean", "factor": 1, "weights": (1.0,)}),
    "SliceProfile.mean": (thinslice.SliceProfile.mean, {"factor": 5}),
    "SliceProfile.gaussian": (thinslice.SliceProfile.gaussian, {"factor": 5}),
    "SliceProfile.trapezoid": (thinslice.SliceProfile.trapezoid, {"factor": 5}),
    "SliceProfile.heavy_tailed": (thinslice.SliceProfile.heavy_tailed, {"factor": 5}),
    "SliceProfile.subsample": (thinslice.SliceProfile.subsample, {"factor": 5}),
    "SliceProfile.named": (thinslice.SliceProfile.named, {"name": "mean", "factor": 5}),
}
"""Public functions, and arguments that they take."""

NOT_CALLED = {"NOTICE", "__version__", "ThinsliceError", "ThinsliceWarning"}
"""Public names that take no arguments of a user."""

REALS = ("fraction", "scalar array")

TAKEN: dict[tuple[str, str], tuple[str, ...]] = {
    ("write", "overwrite"): ("true",),
    ("write", "deidentify"): ("true",),
    ("upscale", "spacing_mm"): ("fraction",),
    ("upscale_slabs", "spacing_mm"): ("fraction",),
    ("upscale_with_uncertainty", "spacing_mm"): ("fraction",),
    **{(name, "texture_seed"): ("zero",) for name in ("upscale", "upscale_slabs", "upscale_with_uncertainty")},
    ("upscale_slabs", "force"): ("true",),
    ("upscale_slabs", "uncertainty"): ("None",),
    ("upscale_slabs", "progress"): ("class", "function"),
    ("upscale_slabs", "deviation"): ("None",),
    ("upscale", "deviation"): ("None",),
    ("read", "axis"): ("zero",),
    ("preview", "overwrite"): ("true",),
    ("Geometry", "thickness_mm"): REALS,
    ("Geometry.respaced", "spacing_mm"): REALS,
    ("Provenance", "format"): ("numeral", "text", "blank", "NUL"),
    ("Provenance", "padding_hu"): ("zero", "negative", *REALS),
    ("Provenance", "warnings"): ("list", "list of texts", "empty array"),
    ("Provenance", "details"): ("dict",),
    ("Volume.from_array", "hu"): ("array",),
    ("Volume.from_array", "thickness_mm"): REALS,
    ("Volume.from_nibabel", "image"): ("image",),
    ("Volume.from_nibabel", "axis"): ("zero",),
    ("Volume.from_nibabel", "thickness_mm"): REALS,
    ("SliceProfile", "name"): ("numeral", "text", "blank", "NUL"),
    ("SliceProfile.trapezoid", "ramp"): ("zero", *REALS),
    ("SliceProfile.heavy_tailed", "tail"): ("zero",),
    **{("SliceProfile." + made, "width"): REALS for made in ("mean", "trapezoid", "heavy_tailed", "named")},
    ("SliceProfile.gaussian", "fwhm"): REALS,
    ("SliceProfile.heavy_tailed", "core"): REALS,
    ("SliceProfile.heavy_tailed", "decay"): REALS,
}
"""Values of `WRONG` that an argument takes rightly; None too where it is the default."""

RAISES_ITSELF = {
    (call, wrong) for call in ("upscale", "upscale_with_uncertainty", "check") for wrong in ("class", "function")
}
"""Functions given as `progress` or `phase` that fail when they are called: their own error passes."""

ALIKE = ("Volume.from_sitk", "Volume.from_torchio", "Volume.from_monai")
"""Take the axis and the thickness as `Volume.from_nibabel` does; their packages need not be installed."""

ARGUMENTS = [
    (name, argument)
    for name, (call, _) in CALLS.items()
    for argument in list(inspect.signature(call).parameters)[: 1 if name in ALIKE else None]
]


def test_no_public_function_is_left_out() -> None:
    assert {name.partition(".")[0] for name in CALLS} | NOT_CALLED == set(thinslice.__all__)


@pytest.mark.filterwarnings("ignore::thinslice.ThinsliceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS, ids=[".".join(pair) for pair in ARGUMENTS])
def test_what_an_argument_does_not_take_is_a_thinslice_error(
    name: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    thinslice.write(THICK, "thick.nii")
    call, good = CALLS[name]
    taken = set()
    for wrong, value in WRONG.items():
        if argument in ("progress", "phase") and (name, wrong) in RAISES_ITSELF:
            continue
        try:
            call(**{**good, argument: value})
        except ThinsliceError as error:
            sentence = str(error)
            assert sentence.endswith(".") and len(sentence) < 600, sentence
            assert wrong != "object" or isinstance(error, TypeError), sentence
        else:
            taken.add(wrong)
    default = inspect.signature(call).parameters[argument].default
    assert taken == {*TAKEN.get((name, argument), ()), *(("None",) if default is None else ())}
    assert taken or [each.name for each in tmp_path.iterdir()] == ["thick.nii"], "nothing was written"
