"""Conversion of other weights files into one with config, card and digest: the authors' checkpoints, and our own
files that lost their digest."""

from __future__ import annotations

from pathlib import Path

from thinslice.errors import UsageError
from thinslice.models import checkpoint
from thinslice.models.released import tvsrn_checkpoint
from thinslice.options import option
from thinslice.recipes.card import check_card
from thinslice.system.atomic import atomic_file
from thinslice.system.files import sha256_of

SUFFIX = ".safetensors"


def convert(
    source: Path, destination: Path, *, name: str | None = None, overwrite: bool = False
) -> checkpoint.CheckpointInfo:
    """Convert a released TVSRN checkpoint, or accept a weights file without a digest; nothing in it is run.

    Args:
        source: the authors' .pkl, a safetensors file with the released names, or a weights file of thinslice that
            states no digest; left untouched.
        destination: file to write, ending in .safetensors.
        name: name of the weights in the card; None for "tvsrn-released", or for the name in the source's card.
        overwrite: whether an existing destination is replaced.

    Returns:
        The metadata of the new file.

    Raises:
        CheckpointError: when the source is damaged, hostile, or of another network; fetch the checkpoint again.
        UsageError: when the destination is the source, or has another suffix; give another path.
        OutputExistsError: when the destination exists and `overwrite` is False; give another path, or overwrite it.
    """
    if destination.suffix.lower() != SUFFIX:
        raise UsageError(f"{destination.name!r} must end in {SUFFIX}, the one format weights are written in.")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise UsageError("The destination is the source itself; give another name for the converted weights.")
    if name is not None:
        try:
            check_card({"name": name})
        except ValueError as error:
            raise UsageError(f"This name cannot stand in a card: {error}; choose another {option('name')}.") from error
    if checkpoint.is_own(source):
        return _accept(source, destination, name=name, overwrite=overwrite)
    read = tvsrn_checkpoint.read_released(source)
    model = tvsrn_checkpoint.build_released(read, source=source.name)
    card = {
        "name": name or tvsrn_checkpoint.ARCHITECTURE,
        "origin": "converted from a released checkpoint",
        "source_sha256": sha256_of(source),
        "source_config": {key: read.config[key] for key in _KEPT if key in read.config},
        "licences": "unknown: ask the authors of the checkpoint before passing it on",
        "limits": f"takes {model.config.depth} thick slices and factor {model.config.factor} only; the checkpoint does "
        "not say what it was trained on; a research result, not for diagnosis",
    }
    with atomic_file(destination, overwrite=overwrite) as partial:
        checkpoint.save(model, partial, architecture=tvsrn_checkpoint.ARCHITECTURE, card=card)
    return checkpoint.inspect(destination)


def _accept(source: Path, destination: Path, *, name: str | None, overwrite: bool) -> checkpoint.CheckpointInfo:
    """Write a weights file of ours again, with a digest; the card records that its tensors were taken on trust."""
    info = checkpoint.inspect(source)
    if info.tensors_sha256 is not None:
        raise UsageError(f"{source.name} is a complete weights file already; there is nothing to convert.")
    card = {**info.card, "accepted": {"source_sha256": info.sha256, "reason": "the source stated no digest"}}
    if name is not None:
        card["name"] = name
    with atomic_file(destination, overwrite=overwrite) as partial:
        checkpoint.save(checkpoint.load_without_digest(source), partial, architecture=info.architecture, card=card)
    return checkpoint.inspect(destination)


_KEPT = ("net_idx", "c_z", "ratio")
"""Entries of the source's config that the card repeats, each checked against the tensors; others may be any text."""
