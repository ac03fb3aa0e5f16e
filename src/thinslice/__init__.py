"""Through-plane super-resolution of CT: thick slices in, thin slices out.

    import thinslice

    thick = thinslice.read("chest_5mm/")                  # DICOM folder, files, zip; NIfTI; NRRD, MetaImage with [itk]
    thin = thinslice.upscale(thick, spacing_mm=1.0)       # the embedded default network, on the CPU
    thinslice.write(thin, "chest_1mm.nii.gz")             # or a folder for DICOM

Names are loaded when first used (PEP 562), so importing the package loads neither torch nor numpy.

Research software, not a medical device: synthesised detail can be wrong; keep the originals.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from thinslice.about import NOTICE, __version__

_WHERE = {
    "check": "thinslice.commands.check",
    "evaluate": "thinslice.evaluation.protocol",
    "inspect": "thinslice.commands.inspect:survey",
    "preview": "thinslice.pictures.figures",
    "read": "thinslice.io.files",
    "show": "thinslice.commands.show",
    "write": "thinslice.io.files",
    "upscale": "thinslice.inference.upscale",
    "upscale_labels": "thinslice.inference.labels",
    "upscale_slabs": "thinslice.inference.upscale",
    "upscale_with_uncertainty": "thinslice.inference.upscale",
    "load_model": "thinslice.models.load",
    "Volume": "thinslice.volume",
    "Provenance": "thinslice.volume",
    "Geometry": "thinslice.geometry",
    "SliceProfile": "thinslice.profile",
    "ThinsliceError": "thinslice.errors",
    "ThinsliceWarning": "thinslice.errors",
}

if TYPE_CHECKING:
    from thinslice.commands.check import check
    from thinslice.commands.inspect import survey as inspect
    from thinslice.commands.show import show
    from thinslice.errors import ThinsliceError, ThinsliceWarning
    from thinslice.evaluation.protocol import evaluate
    from thinslice.geometry import Geometry
    from thinslice.inference.labels import upscale_labels
    from thinslice.inference.upscale import upscale, upscale_slabs, upscale_with_uncertainty
    from thinslice.io.files import read, write
    from thinslice.models.load import load_model
    from thinslice.pictures.figures import preview
    from thinslice.profile import SliceProfile
    from thinslice.volume import Provenance, Volume

__all__ = [
    "Geometry",
    "NOTICE",
    "Provenance",
    "SliceProfile",
    "ThinsliceError",
    "ThinsliceWarning",
    "Volume",
    "__version__",
    "check",
    "evaluate",
    "inspect",
    "load_model",
    "preview",
    "read",
    "show",
    "upscale",
    "upscale_labels",
    "upscale_slabs",
    "upscale_with_uncertainty",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, _, called = _WHERE[name].partition(":")
        return getattr(importlib.import_module(module), called or name)
    raise AttributeError(f"module 'thinslice' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
