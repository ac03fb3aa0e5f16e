"""What MONAI's pipelines and bundles call: an inferer, a dictionary transform, and the loop of a bundle.

    from thinslice.integrations.monai import Upscaled

    transforms = Compose([LoadImaged("image", ensure_channel_first=True), Upscaled("image", factor=5)])

`thinslice models export NAME FOLDER --monai` writes a bundle whose configuration names these classes.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinslice.about import NOTICE
from thinslice.errors import InputError, MissingExtraError, ThinsliceError
from thinslice.inference.upscale import upscale
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.load import load_model
from thinslice.volume import Volume

try:
    from monai.inferers import Inferer
    from monai.transforms import MapTransform
except ImportError as error:
    raise MissingExtraError("MONAI is not installed; pip install monai.") from error

_LOGGER = logging.getLogger(__name__)


class ThroughPlaneInferer(Inferer):  # type: ignore[misc]
    """Windows, stitching and checks of thinslice, as an inferer of MONAI.

    A sliding window of MONAI keeps or scales a volume's extent; D thick slices become (D - 1) * factor + 1 thin ones,
    so the windows are those of `thinslice.upscale`.

    Args:
        factor: thin slices per thick interval, 2 to 8; not beside `spacing_mm`.
        spacing_mm: distance of thin slices; with neither, the whole factor that comes nearest to 1 mm.
        thickness_mm: slice thickness, which a MetaTensor does not hold; None for contiguous slices.
        axis: the tensor's axis across the slices, 0 to 2 without the channel; None for that of the largest spacing.
        settings: further arguments of `thinslice.upscale` by name: plan, device, backend, threads, intensity, profile,
            texture, texture_seed.
    """

    def __init__(
        self,
        factor: int | None = None,
        spacing_mm: float | None = None,
        thickness_mm: float | None = None,
        axis: int | None = None,
        **settings: Any,
    ) -> None:
        self.factor, self.spacing_mm = factor, spacing_mm
        self.thickness_mm, self.axis, self.settings = thickness_mm, axis, settings

    def __call__(self, inputs: Any, network: ThroughPlaneModel, *args: Any, **kwargs: Any) -> Any:
        """The thin volume of a thick one.

        Args:
            inputs: MetaTensor (1, x, y, z) of HU with its affine.
            network: meets `thinslice.models.base`, as `thinslice.load_model` returns it.
            args: not used; MONAI's interface has them.
            kwargs: not used.

        Returns:
            MetaTensor (1, x, y, z) of HU, with the affine of the thin grid.

        Raises:
            ThinsliceError: as `thinslice.upscale` and `Volume.from_monai`.
        """
        thick = Volume.from_monai(inputs, axis=self.axis, thickness_mm=self.thickness_mm)
        thin = upscale(thick, model=network, factor=self.factor, spacing_mm=self.spacing_mm, **self.settings)
        made = thin.to_monai()
        # The name of the source, from which MONAI's writer makes that of the output.
        made.meta = {**inputs.meta, **made.meta}
        return made


class Upscaled(MapTransform):  # type: ignore[misc]
    """A dictionary transform: each named thick CT becomes thin.

    Args:
        keys: names of the volumes in the dictionary, MetaTensors (1, x, y, z) in HU.
        model: as for `thinslice.upscale`.
        allow_missing_keys: pass over names that are not there.
        options: arguments of `ThroughPlaneInferer`.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        model: str | Path | ThroughPlaneModel = "default",
        *,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self._network = load_model(model) if isinstance(model, (str, Path)) else model
        self._inferer = ThroughPlaneInferer(**options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with thin volumes in the named places."""
        made = dict(data)
        for key in self.key_iterator(made):
            made[key] = self._inferer(made[key], self._network)
        return made


class Evaluator:
    """The loop of a bundle: every case of a data set through network, inferer and writer, without further packages.

    Args:
        dataset: a data set of MONAI; its items hold the thick volume under "image".
        network: as for `ThroughPlaneInferer`.
        inferer: as `ThroughPlaneInferer`.
        postprocessing: called with each item, the thin volume under "pred".
    """

    def __init__(self, dataset: Any, network: ThroughPlaneModel, inferer: Any, postprocessing: Any) -> None:
        self.dataset, self.network, self.inferer, self.postprocessing = dataset, network, inferer, postprocessing

    def run(self) -> None:
        """Work on all cases, in order; the others go on when one is refused.

        Raises:
            InputError: the data set is empty, or cases were refused, which the message counts from 1.
        """
        if not len(self.dataset):
            raise InputError("There is no NIfTI file in dataset_dir; set it to the folder with the thick volumes.")
        refused = []
        for number in range(1, len(self.dataset) + 1):
            item = dict(self.dataset[number - 1])
            try:
                item["pred"] = self.inferer(item["image"], self.network)
            except ThinsliceError as error:
                refused.append(f"case {number}: {error}")
                continue
            self.postprocessing(item)
        _LOGGER.warning(NOTICE)
        if refused:
            raise InputError(f"{len(refused)} of {len(self.dataset)} cases were not upscaled; {' '.join(refused)}")
