"""Command `serve`: the local web service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def serve(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of uploads, results and the queue. The user's own unless set."),
    ] = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Folder whose studies the page may read without an upload; repeatable."),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="Port; 0 takes a free one.")] = 8377,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 127.0.0.1 is this computer alone.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further name under which clients reach the server; with --host."),
    ] = None,
    keep_days: Annotated[
        float, typer.Option(metavar="DAYS", help="Results and uploads that nothing uses are removed after this time.")
    ] = 7.0,
    limit_gb: Annotated[
        float, typer.Option(metavar="GIB", help="Size of the data folder, beyond which the oldest results go.")
    ] = 50.0,
    upload_gb: Annotated[float, typer.Option(metavar="GIB", help="Largest upload.")] = 8.0,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Series that are upscaled at once; each takes the memory of a run.")
    ] = 1,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads of each worker; all cores unless set.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> None:
    """Open a page in the browser that upscales: drop a CT, choose a series, download the thin one.

    The page is served by this computer to this computer: nothing leaves it. The address holds a secret key; whoever has
    the address may use the page. Ctrl-C ends the server. Jobs survive: one that is started again goes on with them.

    \b
    thinslice serve
    thinslice serve --allow /data/studies --keep-days 2
    thinslice serve --no-browser --port 0 --data /scratch/thinslice

    Needs more packages; in a clone of the repository: pip install ".[serve]".
    """
    from thinslice.errors import MissingExtraError
    from thinslice.options import option
    from thinslice.service.settings import ServeSettings, default_data_folder

    hush_libraries()
    console = Console()
    settings = ServeSettings(
        data=data or default_data_folder(),
        host=host,
        port=port,
        names=tuple(name or ()),
        allow=tuple(allow or ()),
        keep_days=keep_days,
        limit_gb=limit_gb,
        upload_gb=upload_gb,
        workers=workers,
        threads=threads,
    )
    try:
        from thinslice.service.server import serve as run_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "thinslice":
            raise
        raise MissingExtraError(
            f"The service needs more packages ({error.name} is missing); in a clone of the repository: "
            'pip install ".[serve]".'
        ) from error
    if not settings.is_local:
        console.warn(
            f"{option('host', host)} lets other computers connect, and nothing on the way is encrypted, images "
            "included; put a server with TLS before it."
        )

    def ready(address: str) -> None:
        from thinslice.about import NOTICE

        print(address, flush=True)
        console.note(f"Open this address in a browser of this computer; Ctrl-C ends the server. {NOTICE}")
        if browser:
            import webbrowser

            webbrowser.open(address)

    try:
        run_server(settings, ready=ready)
    except KeyboardInterrupt:
        # The usual end of a server is no interruption.
        console.note("The server has ended. Jobs that are not done go on when it is started again.")
