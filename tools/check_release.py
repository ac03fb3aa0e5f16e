"""Whether a commit can be released: one version everywhere, a dated section of the changelog, the tag, intact weights.

    python tools/check_release.py

The number stands in src/thinslice/about.py and is not derived from tags: it is part of the UIDs and DICOM headers of
outputs and of the names of kept results, so the same sources must have the same number in a clone with tags, in one
without, and in the sdist. This check compares the tag with it. Exit code 1 and one line for each fault.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from thinslice.about import __version__
from thinslice.models.verify import verify

PROJECT = Path(__file__).resolve().parents[1]


def faults(version: str, *, citation: str, changelog: str, tags: list[str], changed: list[str]) -> list[str]:
    """What keeps a commit from being released, one sentence each.

    Args:
        version: number in the package.
        citation: text of CITATION.cff.
        changelog: text of CHANGELOG.md.
        tags: tags of the commit.
        changed: files that differ from the commit.

    >>> faults("1.2.0", citation="version: 1.2.0\\n", tags=["v1.2.0"], changed=[],
    ...        changelog="## [Unreleased]\\n\\n## [1.2.0] - 2026-11-30\\n\\n- news\\n")
    []
    """
    found = []
    cited = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    if cited is None or cited.group(1) != version:
        found.append(f"CITATION.cff names another version than {version}.")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0] for section in sections]
    if not any(re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", title) for title in titles):
        found.append(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'.")
    pending = [section for section in sections if section.startswith("[Unreleased]")]
    if any(re.search(r"^- ", section, re.MULTILINE) for section in pending):
        found.append(f"CHANGELOG.md lists changes as unreleased; move them into the section of {version}.")
    if f"v{version}" not in tags:
        found.append(f"The commit has no tag v{version} (its tags: {', '.join(tags) or 'none'}).")
    if changed:
        found.append(f"Files differ from the commit: {', '.join(changed[:5])}.")
    return found


def main() -> int:
    """Check the commit of this clone."""

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(PROJECT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]

    found = faults(
        __version__,
        citation=(PROJECT / "CITATION.cff").read_text(encoding="utf-8"),
        changelog=(PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"),
        tags=git("tag", "--points-at", "HEAD"),
        changed=[line[3:] for line in git("status", "--porcelain")],
    )
    found += [f"The weights {each.name} are {each.state}." for each in verify() if each.state != "intact"]
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
