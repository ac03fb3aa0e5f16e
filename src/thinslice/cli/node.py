"""Command `node`: a DICOM node that receives, upscales and sends on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def node(
    settings: Annotated[Path, typer.Argument(metavar="NODE.toml", help="Settings: callers, targets, rules.")],
    check: Annotated[bool, typer.Option("--check", help="Check the settings, print a summary, and exit.")] = False,
) -> None:
    """Receive CT series from scanners and archives by DICOM, upscale those that rules choose, and send them on.

    The node answers C-ECHO and C-STORE of the callers in NODE.toml. A study for which nothing comes for a while is
    complete: the first rule that fits a series says how it is upscaled, and the thin series goes to every target by
    C-STORE or STOW-RS. The work is kept on the disk: a node that was killed goes on with it. Ctrl-C ends the node.

    \b
    thinslice node NODE.toml --check
    thinslice node NODE.toml

    A first NODE.toml, for one archive that sends and receives:

    \b
    ae_title = "THINSLICE"
    data = "node-data"
    [[caller]]
    ae_title = "PACS"
    [[target]]
    name = "pacs"
    ae_title = "PACS"
    host = "10.1.2.10"
    port = 104

    Lines about events go to stderr and identify nobody. Needs more packages; in a clone of the repository:
    pip install ".[node]".
    """
    from thinslice.cli.extras import needs_extra

    hush_libraries()
    console = Console()
    with needs_extra("node"):
        from thinslice.service.node.run import run_node
        from thinslice.service.node.settings import read_node_settings
    wanted = read_node_settings(settings)
    if check:
        callers = ", ".join(caller.ae_title for caller in wanted.callers)
        targets = ", ".join(target.name for target in wanted.targets) or "none"
        rules = ", ".join(rule.name for rule in wanted.rules)
        print(f"{wanted.ae_title} on {wanted.host} port {wanted.port}; callers: {callers}; targets: {targets}")
        print(f"rules: {rules}; data folder: {wanted.data}")
        return
    if wanted.tls is None and wanted.host not in ("127.0.0.1", "localhost", "::1"):
        console.warn(
            "Nothing on the way to this node is encrypted, and an AE title is no password; set tls, or keep it on a "
            "network of its own."
        )
    if not wanted.targets:
        console.warn("There is no target, so thin series stay in the data folder; add a [[target]].")

    def ready(port: int, status_port: int) -> None:
        from thinslice.about import NOTICE

        print(f"{wanted.ae_title} {wanted.host}:{port} http://127.0.0.1:{status_port}/", flush=True)
        console.note(f"The last address is the status page; Ctrl-C ends the node. {NOTICE}")

    try:
        run_node(wanted, write=lambda line: print(line, file=sys.stderr, flush=True), ready=ready)
    except KeyboardInterrupt:
        # The usual end of a server is no interruption.
        console.note("The node has ended. Work that is not done goes on when it is started again.")
