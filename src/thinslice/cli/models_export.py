"""Command `models export`: a network as an ONNX file or a MONAI bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries
from thinslice.cli.options import Overwrite, Quiet


def export_model(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False, help="Network, or weights file.")],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", show_default=False, help="ONNX file to write; with --monai the bundle's folder."),
    ],
    factor: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="ThinNet: the factor where a program gives the thick slices alone. Others: the one factor of the "
            "graph. The network's own unless set.",
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="A second output: calibrated standard deviations.")
    ] = False,
    all_inputs: Annotated[
        bool,
        typer.Option(
            "--all-inputs", help="ThinNet: no input has a value of its own. onnxruntime-web could not replace it."
        ),
    ] = False,
    depth: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Other networks: thick slices of the graph's windows.")
    ] = None,
    plane: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=1, help="Other networks: side of the graph's windows.")
    ] = None,
    monai: Annotated[
        bool, typer.Option("--monai", help="Write a bundle for python -m monai.bundle run instead, of any network.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a network as an ONNX file, for onnxruntime and other programs (extra export), or as a MONAI bundle.

    The graph of default, fast, best and every other ThinNet takes any number of slices (2 or more), any plane, any
    factor of the network and any slice profile. Input `thick` is (1, 1, D, H, W), [-1024, 2048] HU scaled to [0, 1];
    output `thin` is (1, 1, (D - 1) x factor + 1, H, W), not clamped. Alone, `thick` means contiguous slices at
    --factor; inputs `condition`, `positions`, `profile` and `damping` describe others. The graph of another network is
    fixed: one factor, one number of slices, one plane.

    The metadata hold what a program needs: window of intensities, factors with their inputs, halo, hash of the weights,
    limits, notice (docs/reference/onnx.md). The file is run by onnxruntime and compared with torch; where they differ
    by more than 0.01 HU, it is not written.

    \b
    thinslice models export default default.onnx
    thinslice models export runs/mine/mine.safetensors mine.onnx --factor 3
    thinslice models export tvsrn.safetensors tvsrn.onnx --plane 128
    thinslice models export default thinslice-default/ --monai
    """
    from thinslice.commands.export import ExportJob, run_export

    hush_libraries()
    if monai:
        graph_only = {"--uncertainty": uncertainty, "--all-inputs": all_inputs, "--depth": depth, "--plane": plane}
        contrary = [option for option, value in graph_only.items() if value]
        _export_bundle(name, target, factor, contrary, overwrite=overwrite, quiet=quiet)
        return
    made = run_export(
        ExportJob(name, target, factor, depth, plane, uncertainty, all_inputs, overwrite),
        notify=Console(quiet=quiet).note,
    )
    if not quiet:
        factors = ", ".join(str(each) for each in made["factors"])
        shape = "any window" if made["any_depth_and_plane"] else f"windows {made['window_shape']}"
        print(
            f"{target.name}: {made['name']}, factors {factors}, {shape}, within {made['agreement_hu']:.4f} HU of torch"
        )


def _export_bundle(
    name: str, target: Path, factor: int | None, contrary: list[str], *, overwrite: bool, quiet: bool
) -> None:
    from thinslice.about import NOTICE
    from thinslice.commands.export_bundle import BundleJob, run_bundle_export
    from thinslice.errors import UsageError

    if contrary:
        raise UsageError(f"{contrary[0]} is for an ONNX file; leave it or --monai out.")
    files = run_bundle_export(BundleJob(name, target, factor, overwrite))
    if not quiet:
        print(f"{target}: {', '.join(path.as_posix() for path in files)}; docs/README.md there shows how to run it")
        print(NOTICE)
