"""The measured slice profile of a run: that of the options, else that of the network's card where it fits the scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import CheckpointError
from thinslice.planning import profile_warning
from thinslice.recipes.slice_profile import MeasuredProfile, read_slice_profile
from thinslice.volume import Volume

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored


def measured_profile(
    given: Path | MeasuredProfile | None, model: ThroughPlaneModel | Stored, name: str, thick: Volume
) -> tuple[MeasuredProfile | None, list[str]]:
    """The measured profile, and what is worth a sentence in the report.

    A network that was trained on real pairs has their profile in its card. It holds for scans whose slices lie as far
    apart and are as thick; for others, and for slices that thinslice simulated, the box of the header is used.

    Args:
        given: that of the options, or its file.
        model: the network, with its card.
        name: the network's name, for sentences.
        thick: the thick volume.

    Returns:
        The profile, None for the box of the slice thickness; sentences for the report.

    Raises:
        InputError: a file that is missing or no slice profile.
        CheckpointError: a damaged profile in the card; train or fetch the weights again.
    """
    if given is not None:
        return (read_slice_profile(given) if isinstance(given, Path) else given), []
    grid = thick.geometry
    own = None if "simulated" in thick.provenance.details else _of_card(model, name)
    if own is not None and own.holds_for(grid):
        return own, [f"The slice profile that {name} was trained with is used ({own.width_mm:.3g} mm wide)."]
    sentences = [profile_warning(grid)]
    if own is not None:
        sentences.append(
            f"{name} was trained on slices {own.described} and these are another protocol's, so its slice profile is "
            "not used; expect no gain over the network that it was trained from."
        )
    return None, [sentence for sentence in sentences if sentence]


def _of_card(model: ThroughPlaneModel | Stored, name: str) -> MeasuredProfile | None:
    card: dict[str, Any] = getattr(model, "card", None) or {}
    values = card.get("slice_profile")
    if values is None:
        return None
    try:
        return MeasuredProfile.model_validate(values)
    except ValueError as error:
        raise CheckpointError(
            f"The slice profile in the card of {name} is damaged; train or fetch the weights again."
        ) from error
