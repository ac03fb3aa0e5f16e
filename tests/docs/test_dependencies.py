"""The list of dependencies: it is the lock, every licence is known, and none is viral."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_dependencies", PROJECT / "tools" / "list_dependencies.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def listed() -> dict[str, tuple[str, str, str]]:
    """Package -> version, licence, purpose, as on the page."""
    text = (PROJECT / "docs" / "reference" / "dependencies.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([a-z0-9-]+) \| (\S+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {name: (version, licence, purpose) for name, version, licence, purpose in lines if name != "package"}


def test_the_list_is_the_lock(tool: ModuleType, listed: dict[str, tuple[str, str, str]]) -> None:
    locked = tool.locked()
    assert {name: entry[0] for name, entry in listed.items()} == locked, "python tools/list_dependencies.py"
    assert len(locked) > 80 and "torch" in locked


def test_no_licence_is_viral_or_unknown(tool: ModuleType, listed: dict[str, tuple[str, str, str]]) -> None:
    for name, (_, licence, _) in listed.items():
        assert licence != "unknown" and not tool.VIRAL.search(licence), f"{name}: {licence}"


def test_licences_are_those_that_the_packages_state(tool: ModuleType, listed: dict[str, tuple[str, str, str]]) -> None:
    same = [name for name, entry in listed.items() if _installed(name) == entry[0]]
    assert len(same) > 20
    for name in same:
        assert tool.licence_of(name) == listed[name][1]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def test_what_is_needed_always_and_with_an_extra(listed: dict[str, tuple[str, str, str]]) -> None:
    assert listed["numpy"][2] == listed["requests"][2] == "always"
    assert {"`[torch]`", "`[train]`"} <= set(listed["torch"][2].split(", ")) >= set(listed["einops"][2].split(", "))
    assert listed["onnxruntime"][2] == "always" != listed["torch"][2]
    assert listed["openvino"][2] == "`[openvino]`" and listed["tensorboard"][2] == "`[train]`"
    assert listed["pytest"][2] == "development"


@pytest.mark.parametrize(
    ("licence", "viral"),
    [
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
        ("SSPL-1.0", True),
        ("CC-BY-NC-4.0", True),
        ("LGPL-2.1", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MPL-2.0", False),
        ("Apache-2.0 AND MIT", False),
    ],
)
def test_viral_licences_are_recognised(tool: ModuleType, licence: str, viral: bool) -> None:
    assert bool(tool.VIRAL.search(licence)) is viral


@pytest.mark.parametrize("name", ["docs", "container"])
def test_lists_that_are_installed_beside_the_lock_agree_with_it(name: str) -> None:
    """`make docs` installs its list into the environment of the tests; `make lock-docs` writes it again."""

    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE))

    lock, beside = (pins(PROJECT / "constraints" / f"{each}.txt") for each in ("requirements", name))
    common = lock.keys() & beside.keys()
    assert len(common) > 10
    assert {each: beside[each] for each in common} == {each: lock[each] for each in common}
