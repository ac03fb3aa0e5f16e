"""The program `thinslice` and its commands; heavy packages are imported inside the command that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from thinslice.about import NOTICE, __version__
from thinslice.cli import (
    benchmark,
    convert,
    dataset,
    dataset_build,
    dataset_download,
    demo,
    evaluate,
    inspect,
    models,
    models_calibrate,
    models_check,
    train,
    upscale,
)

# A backspace alone on a line keeps typer from wrapping the paragraph below.
EPILOG = f"""\b
Exit codes: 0 done; 2 usage; 3 input refused; 4 model or weights; 5 output exists
or cannot be written; 6 memory or disk short; 7 device; 8 partly done (batch);
130 interrupted; 1 internal error.

\b
{NOTICE}
"""

# Plain help: rich would double the time of --help.
app = typer.Typer(
    name="thinslice",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"thinslice {__version__}")
        raise typer.Exit


@app.callback()
def thinslice(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Thick-slice CT in, thin-slice CT out.

    \b
    thinslice upscale chest_5mm/ chest_1mm/         make a thin DICOM series, on the CPU
    thinslice upscale thick.nii.gz thin.nii.gz      make a thin NIfTI file
    thinslice inspect disk/                         list the series that can be upscaled
    thinslice demo                                  upscale a synthetic chest

    thinslice COMMAND --help describes each command.
    """


app.command("upscale", epilog=EPILOG)(upscale.upscale)
app.command("inspect", epilog=EPILOG)(inspect.inspect)
app.command("evaluate", epilog=EPILOG)(evaluate.evaluate)
app.command("convert", epilog=EPILOG)(convert.convert)
app.command("demo", epilog=EPILOG)(demo.demo)
app.command("train", epilog=EPILOG)(train.train)
app.command("benchmark", epilog=EPILOG)(benchmark.benchmark)
app.command("leaderboard", epilog=EPILOG)(benchmark.leaderboard)

_models = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="List, show, score, check and calibrate networks.", epilog=EPILOG
)
_models.command("list", epilog=EPILOG)(models.list_models)
_models.command("show", epilog=EPILOG)(models.show_model)
_models.command("score", epilog=EPILOG)(models.score_model)
_models.command("check", epilog=EPILOG)(models_check.check_models)
_models.command("calibrate", epilog=EPILOG)(models_calibrate.calibrate_model)
app.add_typer(_models, name="models")

_dataset = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Download, verify, analyse and build data sets of thick and thin volumes.",
    epilog=EPILOG,
)
_dataset.command("download", epilog=EPILOG)(dataset_download.download)
_dataset.command("verify", epilog=EPILOG)(dataset.verify)
_dataset.command("analyse", epilog=EPILOG)(dataset.analyse)
_dataset.command("build", epilog=EPILOG)(dataset_build.build)
_dataset.command("mini", epilog=EPILOG)(dataset.mini)
_dataset.command("profile", epilog=EPILOG)(dataset.measure_slice_profile)
app.add_typer(_dataset, name="dataset")
