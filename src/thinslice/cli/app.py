"""The program `thinslice` and its commands; heavy packages are imported inside the command that needs them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thinslice.about import NOTICE, __version__
from thinslice.cli import (
    archive,
    benchmark,
    check,
    convert,
    dataset,
    dataset_build,
    dataset_download,
    dataset_manifest,
    demo,
    dicomweb,
    evaluate,
    inspect,
    models,
    models_calibrate,
    models_check,
    models_export,
    node,
    reader_study,
    serve,
    train,
    upscale,
)
from thinslice.cli.help import Command, Group

EPILOG = f"""Exit codes: 0 done; 2 usage; 3 input refused; 4 model or weights; 5 output exists
or cannot be written; 6 memory or disk short; 7 device; 8 partly done (batch);
9 look closely, 10 not for this network (check); 130 interrupted; 1 internal error.

{NOTICE}
"""

# Plain help: rich would double the time of --help.
app = typer.Typer(
    name="thinslice",
    rich_markup_mode=None,
    no_args_is_help=True,
    cls=Group,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"thinslice {__version__}")
        raise typer.Exit


@app.callback()
def thinslice(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Thick-slice CT in, thin-slice CT out.

    \b
    thinslice demo                              upscale a synthetic chest
    thinslice inspect disk/                     list series that can be upscaled
    thinslice check chest_5mm/                  is the network any good on this scan?
    thinslice upscale chest_5mm/ chest_1mm/     make a thin DICOM series
    thinslice upscale thick.nii.gz thin.nii.gz  make a thin NIfTI file
    thinslice upscale studies/ thin/ --all      every eligible series of a folder
    thinslice archive scan /data/ct             a whole archive: index, plan, run
    thinslice serve                             the same in a page of your browser
    thinslice node NODE.toml                    the same for scanners and PACS

    thinslice COMMAND --help describes each command.
    """


@app.command("help", hidden=True)
def show_help(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", show_default=False)] = None,
) -> None:
    """Show the help of thinslice or of one command, as `thinslice COMMAND --help` does."""
    program: Any = context.parent
    for name in command or []:
        found = program.command.resolve_command(program, [name])[1] if hasattr(program.command, "commands") else None
        if found is None:
            break
        program = program.__class__(found, info_name=name, parent=program)
    print(program.get_help())


app.command("upscale", cls=Command, epilog=EPILOG)(upscale.upscale)
app.command("check", cls=Command, epilog=EPILOG)(check.check_scan)
app.command("inspect", cls=Command, epilog=EPILOG)(inspect.inspect)
app.command("serve", cls=Command, epilog=EPILOG)(serve.serve)
app.command("node", cls=Command, epilog=EPILOG)(node.node)
app.command("pull", cls=Command, epilog=EPILOG)(dicomweb.pull)
app.command("push", cls=Command, epilog=EPILOG)(dicomweb.push)
app.command("evaluate", cls=Command, epilog=EPILOG)(evaluate.evaluate)
app.command("reader-study", cls=Command, epilog=EPILOG)(reader_study.reader_study)
app.command("convert", cls=Command, epilog=EPILOG)(convert.convert)
app.command("demo", cls=Command, epilog=EPILOG)(demo.demo)
app.command("train", cls=Command, epilog=EPILOG)(train.train)
app.command("benchmark", cls=Command, epilog=EPILOG)(benchmark.benchmark)
app.command("leaderboard", cls=Command, epilog=EPILOG)(benchmark.leaderboard)

_models = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, show, score, check, calibrate and export networks.",
    epilog=EPILOG,
)
_models.command("list", cls=Command, epilog=EPILOG)(models.list_models)
_models.command("show", cls=Command, epilog=EPILOG)(models.show_model)
_models.command("verify", cls=Command, epilog=EPILOG)(models.verify_models)
_models.command("score", cls=Command, epilog=EPILOG)(models.score_model)
_models.command("check", cls=Command, epilog=EPILOG)(models_check.check_models)
_models.command("calibrate", cls=Command, epilog=EPILOG)(models_calibrate.calibrate_model)
_models.command("export", cls=Command, epilog=EPILOG)(models_export.export_model)
app.add_typer(_models, name="models")

_dataset = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Download, verify, analyse and build data sets of thick and thin volumes.",
    epilog=EPILOG,
)
_dataset.command("download", cls=Command, epilog=EPILOG)(dataset_download.download)
_dataset.command("verify", cls=Command, epilog=EPILOG)(dataset.verify)
_dataset.command("analyse", cls=Command, epilog=EPILOG)(dataset.analyse)
_dataset.command("build", cls=Command, epilog=EPILOG)(dataset_build.build)
_dataset.command("manifest", cls=Command, epilog=EPILOG)(dataset_manifest.manifest)
_dataset.command("mini", cls=Command, epilog=EPILOG)(dataset.mini)
_dataset.command("profile", cls=Command, epilog=EPILOG)(dataset.measure_slice_profile)
app.add_typer(_dataset, name="dataset")

_archive = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Index a whole archive, plan which series are upscaled, and work on the plan with many processes.",
    epilog=EPILOG,
)
_archive.command("scan", cls=Command, epilog=EPILOG)(archive.scan)
_archive.command("plan", cls=Command, epilog=EPILOG)(archive.plan)
_archive.command("run", cls=Command, epilog=EPILOG)(archive.run)
_archive.command("work", cls=Command, epilog=EPILOG)(archive.work)
_archive.command("status", cls=Command, epilog=EPILOG)(archive.status)
_archive.command("report", cls=Command, epilog=EPILOG)(archive.report)
_archive.command("export", cls=Command, epilog=EPILOG)(archive.export)
app.add_typer(_archive, name="archive")
