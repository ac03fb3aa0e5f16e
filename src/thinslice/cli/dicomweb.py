"""Commands `pull` and `push`: series from and to a DICOMweb service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries
from thinslice.cli.options import Quiet

TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds a bearer token; else the variable THINSLICE_DICOMWEB_TOKEN."),
]
LoginFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds user:password; else the variable THINSLICE_DICOMWEB_LOGIN."),
]
Authority = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) that the service's one is checked with.")
]


def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address, such as https://pacs.example/dicom-web.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder; made if absent, kept from run to run.")],
    study: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="StudyInstanceUID of a study to fetch; repeatable.")
    ] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="SeriesInstanceUID of one series.")] = None,
    find: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What series must have, by DICOM keyword; repeatable."),
    ] = None,
    modality: Annotated[str, typer.Option(metavar="NAME", help="Modality; * for every one.")] = "CT",
    token_file: TokenFile = None,
    login_file: LoginFile = None,
    authority: Authority = None,
    quiet: Quiet = False,
) -> None:
    """Fetch series from a DICOMweb service (QIDO, WADO) into a folder.

    Objects that an earlier run fetched are left out, so a run that was interrupted goes on when it is given again.
    Names of folders and files are digests and identify nobody; the files themselves do. Exit code 8 where a series
    could not be fetched as a whole.

    \b
    thinslice pull https://pacs.example/dicom-web in/ --study 1.2.840.113619.2.1
    thinslice pull https://pacs.example/dicom-web in/ --find StudyDate=20260101-20260131
    thinslice upscale in/ out/ --all

    Needs more packages; in a clone of the repository: pip install ".[node]".
    """
    from thinslice.cli.extras import needs_extra
    from thinslice.errors import PartlyDoneError, UsageError

    hush_libraries()
    console = Console(quiet=quiet)
    with needs_extra("node"):
        from thinslice.service.dicomweb.connection import connect, credentials
        from thinslice.service.dicomweb.pull import pull as pull_series
    filters = {}
    for pair in find or []:
        key, equals, value = pair.partition("=")
        if not (key.isalnum() and equals and value):
            raise UsageError(f"--find {pair!r} is no KEY=VALUE; write for example --find StudyDate=20260131.")
        filters[key] = value
    if series is not None:
        filters["SeriesInstanceUID"] = series
    if not study and not filters:
        raise UsageError("Nothing chooses what is fetched: name --study, --series or --find.")
    if modality != "*":
        filters.setdefault("Modality", modality)
    client = connect(url, credentials(token_file=token_file, login_file=login_file), authority=authority)
    with console.progress("fetching") as progress:
        summary = pull_series(
            client, out, studies=tuple(study or ()), filters=filters, notify=console.note, progress=progress
        )
    print(f"{summary.series} series: {summary.fetched} objects fetched, {summary.present} were there before")
    if summary.failures:
        raise PartlyDoneError(
            f"{len(summary.failures)} of {summary.series} series are not complete; give the command again to go on."
        )


def push(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="DICOM file, or folder of DICOM files.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Address, such as https://pacs.example/dicom-web.")],
    token_file: TokenFile = None,
    login_file: LoginFile = None,
    authority: Authority = None,
    quiet: Quiet = False,
) -> None:
    """Store the DICOM files of a folder at a DICOMweb service (STOW).

    Objects that the service has are left out, so a run that was interrupted goes on when it is given again. Exit code 8
    where the service did not take everything.

    \b
    thinslice upscale chest_5mm/ chest_1mm/
    thinslice push chest_1mm/ https://pacs.example/dicom-web

    Needs more packages; in a clone of the repository: pip install ".[node]".
    """
    from thinslice.cli.extras import needs_extra
    from thinslice.errors import PartlyDoneError

    hush_libraries()
    console = Console(quiet=quiet)
    with needs_extra("node"):
        from thinslice.service.dicomweb.connection import connect, credentials
        from thinslice.service.dicomweb.push import push as push_files
    client = connect(url, credentials(token_file=token_file, login_file=login_file), authority=authority)
    with console.progress("storing") as progress:
        summary = push_files(client, source, notify=console.note, progress=progress)
    left_out = f"; {summary.left_out} files are no DICOM" if summary.left_out else ""
    print(f"{summary.stored} objects stored, {summary.present} were there before{left_out}")
    if summary.failures:
        raise PartlyDoneError(
            f"The service did not take {len(summary.failures)} series as a whole; give the command again to go on."
        )
