"""Export of a network as a MONAI bundle: a folder that `python -m monai.bundle run` upscales NIfTI files with.

The bundle holds the weights file and a configuration; the configuration names thinslice's own inferer, so its voxels
are those of `thinslice upscale`, and thinslice has to be installed where it runs.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.errors import ShapeError, UsageError
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.models import catalog, checkpoint
from thinslice.system.atomic import atomic_directory, require_place

TESTED_MONAI = "1.6.1"
"""Version of MONAI that the bundle was run with."""

INFERER = "thinslice.integrations.monai.ThroughPlaneInferer"
EVALUATOR = "thinslice.integrations.monai.Evaluator"


@dataclass(frozen=True)
class BundleJob:
    """A network, and the folder to write.

    Attributes:
        model: a name of the catalog, or a weights file.
        target: folder of the bundle.
        factor: thin slices per thick interval where the user of the bundle sets none; None for the whole factor that
            comes nearest to 1 mm.
        overwrite: replace a folder that exists.
    """

    model: str
    target: Path
    factor: int | None = None
    overwrite: bool = False


def run_bundle_export(job: BundleJob) -> list[Path]:
    """Write a network as a MONAI bundle.

    Returns:
        The files that were written, below the bundle's folder, sorted.

    Raises:
        UsageError: an unknown network, or a file name in place of a folder.
        CheckpointError: weights that are missing or damaged.
        ShapeError: a factor that the network cannot do.
        OutputError: the folder exists or cannot be written.
    """
    from thinslice.models.load import load_model

    if job.target.suffix.lower() in (".onnx", ".zip", ".json"):
        raise UsageError(f"{job.target.name!r} names a file, and a bundle is a folder; leave its ending out.")
    require_place(job.target, overwrite=job.overwrite, folder=True)
    model = load_model(job.model)
    if job.factor is not None and job.factor not in model.factors:
        able = ", ".join(str(each) for each in sorted(model.factors))
        raise ShapeError(f"{job.model} cannot do factor {job.factor}; it can do {able}.")
    card: dict[str, Any] = getattr(model, "card", None) or {}
    name = str(card.get("name") or Path(job.model).stem)
    weights = _weights_file(job.model)
    with atomic_directory(job.target, overwrite=job.overwrite) as partial:
        for folder in ("configs", "docs", "models"):
            (partial / folder).mkdir()
        if weights is not None:
            shutil.copyfile(weights, partial / "models" / weights.name)
        _write_json(partial / "configs" / "inference.json", inference(job.model, weights, job.factor))
        _write_json(partial / "configs" / "metadata.json", bundle_metadata(name, card, sorted(model.factors)))
        (partial / "docs" / "README.md").write_text(readme(name, card), encoding="utf-8")
        (partial / "LICENSE").write_text(licence(card), encoding="utf-8")
        return sorted(path.relative_to(partial) for path in partial.rglob("*") if path.is_file())


def inference(model: str, weights: Path | None, factor: int | None) -> dict[str, Any]:
    """The configuration of `configs/inference.json`, JSON values; texts with $ are expressions of MONAI.

    Args:
        model: name of a network without weights.
        weights: its weights file, or None for such a network.
        factor: as `BundleJob.factor`.

    >>> inference("cubic", None, 5)["network_def"]
    {'_target_': 'thinslice.load_model', 'name_or_path': '@weights'}
    """
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "auto",
        "factor": factor,
        "spacing_mm": None,
        "thickness_mm": None,
        "weights": model if weights is None else f"$@bundle_root + '/models/{weights.name}'",
        "datalist": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii*')))",
        # Loaded as float64, so that whole HU stay whole whatever their type on disk.
        "preprocessing": {
            "_target_": "LoadImaged",
            "keys": "image",
            "reader": "NibabelReader",
            "dtype": "$np.float64",
            "ensure_channel_first": True,
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "network_def": {"_target_": "thinslice.load_model", "name_or_path": "@weights"},
        "inferer": {
            "_target_": INFERER,
            "factor": "@factor",
            "spacing_mm": "@spacing_mm",
            "thickness_mm": "@thickness_mm",
            "device": "@device",
        },
        "postprocessing": {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "thin",
            "output_ext": ".nii.gz",
            "output_dtype": None,
            "writer": "NibabelWriter",
            "resample": False,
            "separate_folder": False,
            "print_log": False,
        },
        "evaluator": {
            "_target_": EVALUATOR,
            "dataset": "@dataset",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


def bundle_metadata(name: str, card: dict[str, Any], factors: list[int]) -> dict[str, Any]:
    """The content of `configs/metadata.json`, JSON values, with the keys that MONAI describes.

    Args:
        name: of the network.
        card: its card.
        factors: that it can do.
    """
    channel = {"modality": "CT", "format": "hounsfield", "type": "image", "num_channels": 1, "dtype": "float32"}
    shape = {
        "spatial_shape": ["*", "*", "*"],
        "value_range": [WINDOW_MIN_HU, WINDOW_MAX_HU],
        "is_patch_data": False,
        "channel_def": {"0": "HU"},
    }
    version = str(card.get("version") or __version__)
    return {
        "name": f"thinslice {name}",
        "version": version,
        "changelog": {version: f"exported by thinslice {__version__}"},
        "monai_version": TESTED_MONAI,
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "required_packages_version": {"thinslice": __version__, "nibabel": metadata.version("nibabel")},
        "task": "Through-plane super-resolution of CT: thick slices in, thin slices out",
        "description": f"{card.get('summary') or name}; factors {', '.join(str(each) for each in factors)}. {NOTICE}",
        "authors": "The thinslice engineers",
        "copyright": str(card.get("weights_licence") or "see docs/README.md"),
        "data_source": "; ".join(_texts(card.get("data"))) or "not stated",
        "data_type": "nifti",
        "intended_use": NOTICE,
        "network_data_format": {"inputs": {"image": {**channel, **shape}}, "outputs": {"pred": {**channel, **shape}}},
    }


def readme(name: str, card: dict[str, Any]) -> str:
    """The text of `docs/README.md`."""
    limits = " ".join(_texts(card.get("limits"))) or "not stated"
    return f"""# {name}: thick-slice CT to thin-slice CT

{NOTICE}

    pip install monai fire      # and thinslice, whose classes the configuration names
    python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
        --dataset_dir THICK --output_dir THIN

Every NIfTI file in the folder THICK becomes THIN/NAME_thin.nii.gz. Voxels are HU. `--factor 5` or `--spacing_mm 1.0`
sets the distance of thin slices; `--thickness_mm 5.0` states a slice thickness other than their distance, which NIfTI
does not hold.

The windows, the stitching and the checks are thinslice's own: the voxels are those of `thinslice upscale` on the same
file. What `thinslice upscale` repairs on reading (NaN, qform against sform, shear) is read by MONAI here, so such files
are refused, or taken as MONAI reads them.

Limits: {limits}
"""


def licence(card: dict[str, Any]) -> str:
    """The text of `LICENSE`."""
    stated = card.get("weights_licence") or card.get("licences")
    return (
        f"Weights: {stated or 'the card states no licence; ask the maker of the weights file'}.\n"
        "Configuration and text of this bundle: Apache-2.0.\n"
    )


def _weights_file(model: str) -> Path | None:
    """The weights file of a name or path; None for a network without weights."""
    entry = catalog.CATALOG.get(model)
    if entry is not None and not entry.learned:
        return None
    path = catalog.weights_of(model)
    checkpoint.inspect(path)
    return path


def _texts(value: object) -> list[str]:
    """An entry of a card that is one text or several."""
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)] if value else []


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
