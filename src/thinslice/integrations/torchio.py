"""A transform for TorchIO: thick CT of a subject becomes thin, and its label maps come along.

import torchio as tio
from thinslice.integrations.torchio import Upscale

thin = Upscale(factor=5)(tio.Subject(ct=tio.ScalarImage("thick.nii.gz"), organs=tio.LabelMap("organs.nii.gz")))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thinslice.errors import GeometryError, MissingExtraError, UsageError
from thinslice.inference.labels import upscale_labels
from thinslice.inference.upscale import upscale, upscale_with_uncertainty
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.load import load_model
from thinslice.volume import Volume

try:
    import torchio
except ImportError as error:
    raise MissingExtraError("torchio is not installed; pip install torchio.") from error

UNCERTAINTY_SUFFIX = "_uncertainty"
"""What an image's name gets behind it for its standard deviations."""


class Upscale(torchio.SpatialTransform):  # type: ignore[misc]
    """Thin slices of every CT of a subject, and labels on them.

    A scalar image becomes what `thinslice.upscale` makes of it: int16 HU where the thick voxels are whole numbers, else
    float32. A label map becomes what `thinslice.upscale_labels` makes of it, on the thin grid of its CT.
    Every scalar image counts as CT in HU; name others in `exclude`.

    Args:
        model: as for `thinslice.upscale`; a name or file is loaded once, at the first use.
        factor: thin slices per thick interval, 2 to 8; not beside `spacing_mm`.
        spacing_mm: distance of thin slices; with neither, the whole factor that comes nearest to 1 mm.
        thickness_mm: slice thickness, which TorchIO's images do not hold; None for contiguous slices.
        axis: the image's axis across the slices, where its spacings do not show it (the largest does).
        uncertainty: also add the standard deviations in HU as a scalar image, called NAME_uncertainty.
        settings: further arguments of `thinslice.upscale` by name: plan, device, backend, threads, intensity, profile,
            texture, texture_seed.
        base: arguments of every TorchIO transform: p, copy, include, exclude, keep.

    Raises:
        UsageError: a label map without a CT; add the CT, or name both in `include`.
        GeometryError: a label map on the grid of no CT of the subject; resample it onto one.
        ThinsliceError: as `thinslice.upscale` and `thinslice.upscale_labels`.
    """

    def __init__(
        self,
        *,
        model: str | Path | ThroughPlaneModel = "default",
        factor: int | None = None,
        spacing_mm: float | None = None,
        thickness_mm: float | None = None,
        axis: int | None = None,
        uncertainty: bool = False,
        settings: dict[str, Any] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.model, self.factor, self.spacing_mm = model, factor, spacing_mm
        self.thickness_mm, self.axis, self.uncertainty = thickness_mm, axis, uncertainty
        self.settings = dict(settings or {})
        # TorchIO keeps these in a subject's history, from which the transform can be made again.
        self.args_names = ["model", "factor", "spacing_mm", "thickness_mm", "axis", "uncertainty", "settings"]
        self._network: ThroughPlaneModel | None = None

    def apply_transform(self, subject: Any) -> Any:
        """The subject with thin images; called by TorchIO.

        Args:
            subject: a `torchio.Subject`; its images are replaced.
        """
        images = subject.get_images_dict(intensity_only=False, include=self.include, exclude=self.exclude)
        scans = {name: image for name, image in images.items() if not isinstance(image, torchio.LabelMap)}
        # TorchIO turns every rounding underflow and division by zero of NumPy into an error; ours are handled.
        with np.errstate(divide="warn", over="warn", invalid="warn", under="ignore"):
            pairs = {name: self._upscaled(image) for name, image in scans.items()}
            for image in images.values():
                if isinstance(image, torchio.LabelMap):
                    self._bring_along(image, [(thick, thin) for thick, thin, _ in pairs.values()])
            for name, (_, thin, deviation) in pairs.items():
                _replace(scans[name], thin)
                if deviation is not None:
                    subject.add_image(deviation.to_torchio(), name + UNCERTAINTY_SUFFIX)
        return subject

    def _upscaled(self, image: Any) -> tuple[Volume, Volume, Volume | None]:
        """Thick, thin and standard deviations of an image."""
        if self._network is None:
            is_network = not isinstance(self.model, (str, Path))
            self._network = self.model if is_network else load_model(self.model)  # type: ignore[assignment, arg-type]
        thick = Volume.from_torchio(image, axis=self.axis, thickness_mm=self.thickness_mm)
        arguments = {"model": self._network, "factor": self.factor, "spacing_mm": self.spacing_mm, **self.settings}
        if self.uncertainty:
            return (thick, *upscale_with_uncertainty(thick, **arguments))
        return thick, upscale(thick, **arguments), None

    def _bring_along(self, image: Any, scans: list[tuple[Volume, Volume]]) -> None:
        """Put a label map onto the thin grid of the scan that it was drawn on."""
        refusals = []
        for thick, thin in scans:
            # The spacings of labels and scan are the same, so its axis is theirs.
            labels = Volume.from_torchio(image, axis=thick.provenance.file_axes[0])
            try:
                _replace(image, upscale_labels(labels, thin))
                return
            except GeometryError as error:
                refusals.append(str(error))
        if refusals:
            raise GeometryError(f"A label map lies on the grid of no CT of the subject. {refusals[0]}")
        raise UsageError("A label map needs the CT that it was drawn on; add that to the subject, or to include.")


def _replace(image: Any, volume: Volume) -> None:
    """Give an image of TorchIO the voxels and the grid of a volume."""
    made = volume.to_torchio()
    image.set_data(made.data)
    image.affine = made.affine
