"""Write docs/reference/dependencies.md: every package of the lock with version, licence and purpose.

    python tools/list_dependencies.py           # writes the page
    python tools/list_dependencies.py --check   # exit 1 where a licence is viral or unknown, or the page is out of date

Licences are those that the installed packages state in their metadata, so the packages of the lock must be installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
LOCK = PROJECT / "constraints" / "requirements.txt"
PAGE = PROJECT / "docs" / "reference" / "dependencies.md"

VIRAL = re.compile(
    r"(?<![L-])\bA?GPL|Affero|(?<!Lesser )(?<!Library )General Public License|SSPL|EUPL|CC-BY-(SA|NC)", re.IGNORECASE
)
"""Licences that would reach into this package or its users' programs."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Names of trove classifiers -> short names, for packages without an SPDX expression."""

READ = {"dcm2niix": "BSD, MIT, public domain"}
"""Licences of packages whose metadata hold the text alone, as read there."""

HEAD = """# Dependencies and their licences

Every package that a full set-up installs, from `constraints/requirements.txt` and PyTorch; written by
`tools/list_dependencies.py` from what the installed packages state, and compared with the lock by a test. None is
under the GPL, the AGPL or another licence that would reach into programs that use `thinslice`. MPL-2.0 covers changes
to the files of that package alone.

`make sbom` writes the installed packages as a software bill of materials (`sbom.json`, CycloneDX) with what each
depends on; `make audit` compares the lock with the public lists of vulnerabilities, for which it needs a network
connection.

"""


def locked() -> dict[str, str]:
    """Package -> version, of the lock and of torch, which the Makefile pins."""
    found = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    torch = re.search(r"TORCH_INSTALL \?= torch==(\S+)", (PROJECT / "Makefile").read_text(encoding="utf-8"))
    assert torch is not None
    return {str(canonicalize_name(name)): version for name, version in {**found, "torch": torch[1]}.items()}


def licence_of(package: str) -> str:
    """The licence that an installed package states; "unknown" without a statement."""
    if package in READ:
        return READ[package]
    facts = metadata.metadata(package)
    if facts["License-Expression"]:
        return str(facts["License-Expression"])
    stated = str(facts["License"] or "").split("\n")[0].strip()
    if stated and len(stated) <= 40 and re.search(r"MIT|BSD|Apache|PSF|MPL|ISC|GPL", stated):
        return stated
    texts = [file.read_text() for file in metadata.files(package) or () if file.name.startswith("LICENSE")]
    if not stated and any("Apache License" in text[:200] and "Version 2.0" in text[:200] for text in texts):
        return "Apache-2.0"
    classes = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or [] if c.startswith("License ::")]
    return ", ".join(CLASSIFIERS.get(name, name) for name in classes) or "unknown"


def spelled_out(requirements: Iterable[str], extras: Mapping[str, Iterable[str]]) -> list[str]:
    """Requirements with those of the project's own extras in place of `thinslice[...]`."""
    result = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name == "thinslice":
            result += [each for extra in requirement.extras for each in spelled_out(extras[extra], extras)]
        else:
            result.append(text)
    return result


def closure(requirements: Iterable[str]) -> set[str]:
    """Packages that requirements bring along, themselves included, by the metadata of the installed ones."""
    followed: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        key = str(canonicalize_name(requirement.name)), frozenset(requirement.extras)
        if key in followed:
            continue
        followed.add(key)
        for brought in map(Requirement, metadata.requires(key[0]) or ()):
            wanted = ({"extra": extra} for extra in ("", *key[1]))
            if brought.marker is None or any(map(brought.marker.evaluate, wanted)):
                waiting.append(brought)
    return {name for name, _ in followed}


def rows() -> list[tuple[str, str, str, str]]:
    """(package, version, licence, purpose) of every package of the lock, by name."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = closure(project["dependencies"])
    offered = sorted(extras.keys() - {"dev", "docs"})
    optional = {name: closure(spelled_out(extras[name], extras)) for name in offered}
    result = []
    for name, version in sorted(locked().items()):
        purpose = "always" if name in needed else ", ".join(f"`[{e}]`" for e, held in optional.items() if name in held)
        result.append((name, version, licence_of(name), purpose or "development"))
    return result


def page(listed: Iterable[tuple[str, str, str, str]]) -> str:
    """The page as Markdown."""
    lines = ["| package | version | licence | needed |", "|---|---|---|---|"]
    return HEAD + "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in listed)]) + "\n"


def main() -> int:
    """Write the page, or check it; the exit code."""
    listed = rows()
    bad = [f"{name}: {licence}" for name, _, licence, _ in listed if licence == "unknown" or VIRAL.search(licence)]
    for line in bad:
        sys.stderr.write(f"licence to look at: {line}\n")
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(listed), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page(listed):
        sys.stderr.write(f"{PAGE.name} is out of date: python tools/list_dependencies.py\n")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
