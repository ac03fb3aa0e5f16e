"""The networks, and what each says about itself."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of lines.")] = False,
) -> None:
    """List the networks by name, installed plug-ins included.

    \b
    thinslice models list
    thinslice upscale thick.nii.gz thin.nii.gz --model cubic
    """
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
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False, help="A network, or a weights file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Show a network's card: what its weights were made from, how they score, and where they fail.

    \b
    thinslice models show default
    thinslice models show runs/mine.safetensors --json
    """
    shown = _shown(name)
    print(json.dumps(shown, indent=2) if as_json else "\n".join(_lines(shown)))


def _row(name: str) -> dict[str, Any]:
    from thinslice.models import catalog

    entry = catalog.CATALOG.get(name)
    if entry is None:
        return {"name": name, "summary": "from an installed plug-in", "ready": True}
    return {"name": name, "summary": entry.summary, "ready": not entry.learned or entry.weights is not None}


def _shown(name: str) -> dict[str, Any]:
    from pathlib import Path

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


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines.append(f"{indent}{name}:")
            for item in value:
                inner = _lines(item, indent + "    ") if isinstance(item, dict) else [f"{indent}    {item}"]
                lines += [f"{indent}  - {inner[0].strip()}", *inner[1:]] if inner else []
        else:
            text = ", ".join(str(item) for item in value) if isinstance(value, list) else value
            lines.append(f"{indent}{name}: {text}")
    return lines
