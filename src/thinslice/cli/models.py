"""Commands `models list`, `show` and `score`: the networks, their cards and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thinslice.cli.console import readable


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the networks by name, installed plug-ins included.

    \b
    thinslice models list
    thinslice upscale thick.nii.gz thin.nii.gz --model cubic
    """
    import json

    from thinslice.models import catalog

    rows = [_row(name) for name in catalog.names()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        note = "" if row["ready"] else "; needs a weights file"
        print(f"{row['name']:{width}}  {row['summary']}{note}")


def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False, help="Network, or weights file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a network's card: training data, scores and limits.

    \b
    thinslice models show default
    thinslice models show runs/mine.safetensors --json
    """
    import json

    shown = _shown(name)
    print(json.dumps(shown, indent=2) if as_json else "\n".join(readable(shown)))


def score_model(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False, help="Network, or weights file.")],
    thin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=PATH", help="Thin volume outside the training data; thick slices are simulated from it."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=THICK,THIN", help="Thick and thin reconstruction of one acquisition."),
    ] = None,
    factors: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Factors for --thin, separated by commas.")
    ] = "2,3,4,5,6,7,8",
    write_card: Annotated[
        bool, typer.Option("--write-card", help="Keep the scores in the weights file's card.")
    ] = False,
) -> None:
    """Score a network beside cubic interpolation with protocol rplhr.

    \b
    thinslice models score default --thin mine=/data/thin.nii.gz
    thinslice models score runs/mine/mine.safetensors --thin a=a.nii.gz --thin b=b.nii.gz --write-card
    """
    from thinslice.cli import labelled_paths
    from thinslice.cli.console import Console, hush_libraries
    from thinslice.errors import NotEligibleError, UsageError
    from thinslice.experiments import scorecard
    from thinslice.io.files import read

    hush_libraries()
    wanted, singles, doubles = (
        labelled_paths.factors(factors),
        labelled_paths.thin_cases(thin),
        labelled_paths.pair_cases(pair),
    )
    if not singles and not doubles:
        raise UsageError("Nothing to score: pass --thin LABEL=PATH or --pair LABEL=THICK,THIN.")
    weights = labelled_paths.own_weights(name) if write_card else None
    rows: list[scorecard.Score] = []
    for label, path in singles.items():
        rows += scorecard.score_simulated(name, read(path), case=label, factors=wanted)
    for label, (thick_path, thin_path) in doubles.items():
        rows += scorecard.score_pair(name, read(thick_path), read(thin_path), case=label)
    if not rows:
        raise NotEligibleError("No factor leaves 11 thin slices of any volume; use --factors 2, or deeper volumes.")
    print("\n".join(scorecard.table(rows)))
    if weights is not None:
        scorecard.write_into_card(weights, rows, note="thick slices simulated by `mean`, except real pairs")
        Console().note(f"{weights.name}: scores written into the card")


def verify_models(
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE.sig", help="Detached signature of the list SHA256SUMS; with --signers."),
    ] = None,
    signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Public keys that you trust (OpenSSH's allowed_signers); with --signature."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Check that the embedded weights are those of the release, by their SHA-256.

    Exit code 4 where a file is changed, missing, or not on the release's list. The list comes with the package; with
    --signature and --signers it is also shown who made it (OpenSSH's ssh-keygen checks that).

    \b
    thinslice models verify
    thinslice models verify --signature SHA256SUMS.sig --signers allowed_signers
    """
    import json
    from dataclasses import asdict

    from thinslice.errors import CheckpointError, UsageError
    from thinslice.models.catalog import WEIGHTS_FOLDER
    from thinslice.models.signature import check_signature
    from thinslice.models.verify import LIST, verify

    if (signature is None) != (signers is None):
        raise UsageError("A signature is checked against public keys: give --signature and --signers together.")
    files = verify()
    if as_json:
        print(json.dumps([asdict(each) for each in files], indent=2))
    else:
        width = max((len(each.name) for each in files), default=0)
        for each in files:
            print(f"{each.name:{width}}  {each.state:10}  {each.sha256 or '-'}")
    wrong = [each.name for each in files if each.state != "intact"]
    if wrong or not files:
        raise CheckpointError(
            f"The embedded weights are not those of the release ({', '.join(wrong) or 'there are none'}); install "
            "thinslice again."
        )
    if signature is not None and signers is not None:
        signer = check_signature(WEIGHTS_FOLDER / LIST, signature, signers)
        if not as_json:
            print(f"{LIST}: signed by {signer}")


def _row(name: str) -> dict[str, Any]:
    from thinslice.models import catalog

    entry = catalog.CATALOG.get(name)
    if entry is None:
        return {"name": name, "summary": "from an installed plug-in", "ready": True}
    return {"name": name, "summary": entry.summary, "ready": not entry.learned or entry.weights is not None}


def _shown(name: str) -> dict[str, Any]:
    from thinslice.errors import UsageError
    from thinslice.models import catalog, checkpoint

    known = name in catalog.names()
    shown = _row(name) if known else {"name": Path(name).name}
    entry = catalog.CATALOG.get(name)
    if known and (entry is None or entry.weights is None):
        return shown
    path = catalog.weights_path(name) if known else Path(name)
    if not path.is_file():
        if known:
            raise UsageError(f"This installation lacks the weights of {name!r}; install thinslice again.")
        raise UsageError(
            f"{name!r} is neither a model name ({', '.join(catalog.names())}) nor a weights file that exists."
        )
    info = checkpoint.inspect(path)
    return {
        **shown,
        "architecture": info.architecture,
        "parameters": info.parameters,
        "sha256": info.sha256,
        "config": info.config,
        "card": info.card,
    }
