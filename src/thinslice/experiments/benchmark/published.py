"""Published numbers, printed beside ours and marked as published; none is measured by this project.

Two sources that must not be mixed: the paper's own table, and another team's training of several networks on the
same data, scored on another split under another intensity window. Values that a source does not state are None. The
paper's four CNN rows exist only in a figure and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from thinslice.errors import UsageError


@dataclass(frozen=True)
class Publication:
    """A publication with numbers.

    Attributes:
        name: short, for tables.
        text: citation and conditions, one sentence or two.
        cases: number of test cases, None where not stated.
        protocol: scoring protocol (`thinslice.evaluation.rules`) under which ours compare; None for none of them.
    """

    name: str
    text: str
    cases: int | None = None
    protocol: str | None = None


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        label: as printed.
        source: the publication.
        psnr: mean over cases, dB.
        psnr_sd: standard deviation over cases.
        ssim: mean over cases.
        ssim_sd: standard deviation over cases.
        parameters: number of trained values.
    """

    label: str
    source: Publication
    psnr: float
    ssim: float
    psnr_sd: float | None = None
    ssim_sd: float | None = None
    parameters: int | None = None


PAPER = Publication(
    "paper, Table 1",
    "Yu et al., RPLHR-CT Dataset and Transformer Baseline for Volumetric Super-Resolution from CT Scans, MICCAI 2022, "
    "Table 1: RPLHR-CT test split, 100 cases.",
    100,
    "rplhr",
)

RETRAINED = Publication(
    "retrained elsewhere",
    "Another team's training on RPLHR-CT, scored on the validation split under another intensity window: not "
    "comparable with the paper's numbers, nor with a row under protocol rplhr.",
)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "tvsrn-vit-encoder": Published("TVSRN, ViT encoder", PAPER, 35.537, 0.918, 1.353, 0.026, 17_150_000),
        "tvsrn-encoder": Published("TVSRN, encoder", PAPER, 38.364, 0.934, 1.675, 0.024, 1_580_000),
        "tvsrn-no-tab": Published("TVSRN, no TAB", PAPER, 38.497, 0.935, 1.700, 0.024, 1_560_000),
        "tvsrn": Published("TVSRN", PAPER, 38.609, 0.936, 1.721, 0.024, 1_730_000),
        "retrained/cubic": Published("cubic", RETRAINED, 30.24, 0.786),
        "retrained/tvsrn": Published("TVSRN", RETRAINED, 33.17, 0.838),
        "retrained/i3net": Published("I3Net", RETRAINED, 33.22, 0.847),
        "retrained/cthnet": Published("CTHNet", RETRAINED, 33.44, 0.850),
    }
)
"""All rows by key; suites name them as `published`."""


def published(key: str) -> Published:
    """A published row.

    Raises:
        UsageError: there is none of that key; the message lists them.

    >>> published("tvsrn").psnr
    38.609
    """
    if key not in PUBLISHED:
        raise UsageError(f"There are no published numbers {key!r}; choose one of {', '.join(PUBLISHED)}.")
    return PUBLISHED[key]
