"""The page's sources agree with the package."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

from thinslice.about import NOTICE
from thinslice.models.catalog import weights_path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "page"


def test_the_fixture_of_the_page_s_tests_is_what_the_package_gives() -> None:
    tool = runpy.run_path(str(PROJECT / "tools" / "page_fixture.py"))
    expected, found = json.loads(tool["fixture"]()), json.loads((PAGE / "test" / "fixture.json").read_text())
    assert expected == found


def test_the_notice_is_that_of_the_package() -> None:
    assert NOTICE in (PAGE / "index.html").read_text()


def test_the_networks_are_embedded_ones_and_those_that_make_exports() -> None:
    built = re.findall(r"'(\w+)\.onnx'[,\]]", (PAGE / "build.mjs").read_text())
    exported = re.search(r"^PAGE_NETWORKS := (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert exported is not None
    assert built == exported.group(1).split()
    assert all(weights_path(name).is_file() for name in built)


def test_packages_that_become_part_of_the_page_are_pinned_and_their_licences_in_it() -> None:
    pinned = json.loads((PAGE / "package.json").read_text())["devDependencies"]
    locked = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    licences = (PAGE / "licences.txt").read_text()
    for name in ("onnxruntime-web", "@niivue/dcm2niix", "fflate"):
        assert locked[f"node_modules/{name}"]["version"] == pinned[name]
        assert name.removeprefix("@niivue/") in licences
