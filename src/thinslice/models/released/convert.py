"""Conversion of the authors' checkpoints into one weights file with config and card."""

from __future__ import annotations

from pathlib import Path

from thinslice.errors import UsageError
from thinslice.models import checkpoint
from thinslice.models.released import tvsrn_checkpoint
from thinslice.system.atomic import atomic_file
from thinslice.system.files import sha256_of

SUFFIX = ".safetensors"


def convert(
    source: Path, destination: Path, *, name: str | None = None, overwrite: bool = False
) -> checkpoint.CheckpointInfo:
    """Convert a released TVSRN checkpoint; nothing in it is run.

    Args:
        source: the authors' .pkl, or a safetensors file with the released names; left untouched.
        destination: file to write, ending in .safetensors.
        name: name of the weights in the card; None for "tvsrn-released".
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


_KEPT = ("net_idx", "c_x", "c_y", "c_z", "ratio")
"""Entries of the source's config that the card repeats; others may be paths of the machine that wrote it."""
