"""Command `dataset download`: RPLHR-CT by its DOI, resumable and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def download(
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="Folder of the data set.")],
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="train, val or test; may be given several times; default: all."),
    ] = None,
    doi: Annotated[
        str | None,
        typer.Option("--doi", "--record", metavar="DOI", help="DOI of another record that holds SPLIT.zip files."),
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", metavar="NUMBER", help="Byte ranges fetched at once.")
    ] = 8,
    keep_zip: Annotated[bool, typer.Option("--keep-zip", help="Keep each zip beside its unpacked folder.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a split's folder that was changed or made by hand.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
    resolver: Annotated[str | None, typer.Option(envvar="THINSLICE_DOI_RESOLVER", hidden=True)] = None,
) -> None:
    """Download RPLHR-CT (CC-BY-4.0) by its DOI, check and unpack it, one split after the other.

    \b
    thinslice dataset download rplhr/                    all splits: 34 GB, at most 49 GB of disk
    thinslice dataset download rplhr/ --split val        6.9 GB

    After an interruption the same command continues where it stopped. A split that was fetched and checked before is
    skipped. Each zip must have its published checksum before it is unpacked, and is deleted afterwards.

    Without a network, fetch the zips elsewhere (doi.org, 10.5281/zenodo.17239183), put them into OUT, and run the same
    command: it checks and unpacks them. Proxies: HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE.
    """
    from thinslice.data.download.dataset import SPLITS
    from thinslice.data.download.dataset import download as fetch_splits
    from thinslice.data.download.record import DOI_RESOLVER, RPLHR_DOI

    hush_libraries()
    console = Console(quiet=quiet)
    with console.transfer() as report:
        outcomes = fetch_splits(
            out,
            splits=split or SPLITS,
            doi=doi or RPLHR_DOI,
            connections=connections,
            keep_zip=keep_zip,
            overwrite=overwrite,
            resolver=resolver or DOI_RESOLVER,
            report=report,
        )
    for outcome in outcomes:
        for sentence in outcome.warnings:
            console.warn(sentence)
        state = "already present, fetched and checked before" if outcome.state == "there" else "fetched and checked"
        console.note(f"{outcome.split}: {state}: {outcome.thin} thin and {outcome.thick} thick volumes.")
    console.note("Next: thinslice dataset verify OUT")
