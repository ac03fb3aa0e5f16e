"""The table at the head of docs/explanation/networks.md: every learned network, its parameters and its operations.

    python speed/networks.py            # print it
    python speed/networks.py --write    # put it into docs/explanation/networks.md

Counted, not measured: parameters of the network as the catalog builds it, and operations of one pass over 4 x 256 x 256
thick voxels at factor 5 (`thinslice.models.cost`; a multiplication and an addition are two). A test compares the page
with the networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from thinslice.models import catalog, cost
from thinslice.models.base import ThroughPlaneModel

WINDOW = (4, 256, 256)
FACTOR = 5

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "networks.md"
BEGIN = "<!-- made by: python speed/networks.py --write -->\n"
END = "<!-- end -->\n"

TVSRN_PAPER = "Yu et al., MICCAI 2022"
NOT_STATED = "not stated"

SOURCES = {
    "thinnet": ("ours, also as `default`", "-"),
    "fast": ("ours", "-"),
    "best": ("ours", "-"),
    "tvsrn": (TVSRN_PAPER, "1.73 M"),
    "tvsrn-released": (f"{TVSRN_PAPER}, released code", "2,387,489"),
    "tvsrn-no-tab": (f"{TVSRN_PAPER}, Table 1", "1.56 M"),
    "tvsrn-encoder": (f"{TVSRN_PAPER}, Table 1", "1.58 M"),
    "tvsrn-vit-encoder": (f"{TVSRN_PAPER}, Table 1", "17.15 M"),
    "resvox": ("Ge et al., MICCAI 2019", NOT_STATED),
    "mpunet": ("Liu et al., MICCAI 2020", NOT_STATED),
    "saint": ("Peng et al., CVPR 2020", "2.79 M + 0.37 M"),
    "davsr": ("Peng et al., MICCAI 2021", NOT_STATED),
    "cthnet": ("CTHNet, npj Digital Medicine 2024", "10.6 M"),
    "i3net": ("Song et al., TMI 2024", "23.2 M"),
    "acvtt": ("Uhm et al., arXiv 2509.20242", "9.25 M per stage"),
    "dpnsl": ("Song et al., arXiv 2606.26716", NOT_STATED),
}
"""Source of each network, and the parameters stated there (for tvsrn-released: counted in its code)."""


def table() -> str:
    """The table as Markdown lines."""
    lines = [
        "| name | source | parameters, ours | parameters, published | operations, 10^9 |",
        "|---|---|---:|---:|---:|",
    ]
    for name, entry in catalog.CATALOG.items():
        if not entry.learned or name == "default":  # default is thinnet with weights
            continue
        source, published = SOURCES.get(name, (NOT_STATED, NOT_STATED))
        model = build(name)
        parameters = cost.parameters(model)
        note = ""
        if model.window.depth not in (None, WINDOW[0]):
            note = f", built for {WINDOW[0]} slices"
            model = build(name, depth=WINDOW[0])
        operations = cost.operations(model, WINDOW, FACTOR) / 1e9
        lines.append(f"| `{name}` | {source} | {parameters:,} | {published} | {operations:,.0f}{note} |")
    return "\n".join(lines) + "\n"


def build(name: str, **config: Any) -> ThroughPlaneModel:
    """The network on torch's "meta" device, without memory for its weights: only shapes are needed."""
    with torch.device("meta"):
        return catalog.build(name, **config)


def split(page: str) -> tuple[str, str, str]:
    """The text before the table, the table, and the text after it."""
    before, rest = page.split(BEGIN)
    inside, after = rest.split(END)
    return before + BEGIN, inside, END + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    if parser.parse_args().write:
        before, _, after = split(PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(before + table() + after, encoding="utf-8")
    else:
        print(table(), end="")


if __name__ == "__main__":
    main()
