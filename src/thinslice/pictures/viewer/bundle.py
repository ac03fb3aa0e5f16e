"""The viewer's script, which the package carries as data: `viewer.js`, one script that defines `ThinsliceViewer`.

`viewer/build.mjs` makes it and writes `viewer.json` beside it, with digests of the sources and of the script, so that a
check without Node can find a script that is not the current one.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

SOURCES_BESIDE = ("build.mjs", "package-lock.json", "tsconfig.json")
"""Files of the folder `viewer` that the script depends on, besides everything in `viewer/src`."""


def script() -> str:
    """The script, to be put into a page or served."""
    return files("thinslice.pictures.viewer").joinpath("viewer.js").read_text(encoding="utf-8")


def recorded_digests() -> dict[str, str]:
    """SHA-256 of the sources and of the script, as they were when the script was made."""
    text = files("thinslice.pictures.viewer").joinpath("viewer.json").read_text(encoding="utf-8")
    return {str(name): str(value) for name, value in json.loads(text).items()}


def digest_of_sources(folder: Path) -> str:
    """SHA-256 over names and contents of the sources, as `viewer/build.mjs` takes it.

    Args:
        folder: `viewer` of the repository.
    """
    paths = [path for path in (folder / "src").rglob("*") if path.is_file()]
    paths += [folder / name for name in SOURCES_BESIDE]
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in paths):
        whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
