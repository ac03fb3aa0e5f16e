"""A manifest for pairs whose files follow a pattern of their own, such as a data set in a layout not known here.

A pattern is a path below the folder with placeholders: `{case}` names the pair, `{split}` and `{patient}` what their
names say. Each stands for text without a slash, the same wherever it stands twice; `*` is any text that does not
matter.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thinslice.errors import InputError, UnreadableError, UsageError
from thinslice.options import option
from thinslice.system.atomic import atomic_file

PLACEHOLDERS = ("case", "split", "patient")

COLUMNS = ("case", "thick", "thin", "split", "patient", "thick_thickness_mm")


@dataclass(frozen=True)
class ListedPairs:
    """Pairs that two patterns found.

    Attributes:
        rows: of the manifest, by its columns; paths start from the manifest's folder.
        only_thin, only_thick: names of cases of which one file alone was found.
    """

    rows: tuple[dict[str, str], ...]
    only_thin: tuple[str, ...]
    only_thick: tuple[str, ...]


def list_pairs(
    root: Path,
    manifest: Path,
    *,
    thin: str,
    thick: str,
    split: str | None = None,
    thick_thickness_mm: float | None = None,
    overwrite: bool = False,
) -> ListedPairs:
    """Write a manifest of the pairs below a folder; no volume is read.

    Args:
        root: folder of the files.
        manifest: CSV to write; it may lie anywhere, best beside the files.
        thin, thick: patterns of the thin and the thick files (or DICOM folders) below `root`; each has `{case}`.
        split: split of all cases, for patterns without `{split}`.
        thick_thickness_mm: thickness of the thick slices, which NIfTI does not hold.
        overwrite: whether to replace a manifest that exists.

    Raises:
        UsageError: a pattern without `{case}` or with an unknown placeholder, or no split; correct the arguments.
        UnreadableError: there is no such folder.
        InputError: nothing was found, or two files fit one case; make the pattern fit one file of each case.
        OutputExistsError, OutputError: the manifest exists, or cannot be written.
    """
    if not root.is_dir():
        raise UnreadableError(f"There is no folder {str(root)!r}; check the path.")
    patterns = {"thin": thin, "thick": thick}
    for given, pattern in ((option("thin", thin), thin), (option("thick", thick), thick)):
        if "{case}" not in pattern:
            raise UsageError(f"{given} has no {{case}}, the name of a pair; put it in.")
    if split is None and not any("{split}" in pattern for pattern in patterns.values()):
        raise UsageError(f"The cases have no split; give {option('split')}, or put {{split}} into a pattern.")
    found = {name: _by_case(root, pattern, name) for name, pattern in patterns.items()}
    both = sorted(found["thin"].keys() & found["thick"].keys())
    if not both:
        counts = f"{len(found['thin'])} thin and {len(found['thick'])} thick"
        raise InputError(f"No pair was found: the patterns fit {counts} files, and no case has both; correct them.")
    rows = []
    for case in both:
        named = {**found["thin"][case][1], **found["thick"][case][1]}
        rows.append({
            "case": case,
            **{name: _relative(found[name][case][0], manifest.parent) for name in patterns},
            "split": named.get("split") or split or "",
            "patient": named.get("patient", ""),
            "thick_thickness_mm": "" if thick_thickness_mm is None else f"{thick_thickness_mm:g}",
        })  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(manifest, overwrite=overwrite) as part:
        part.write_text(text.getvalue(), encoding="utf-8")
    return ListedPairs(
        tuple(rows),
        tuple(sorted(found["thin"].keys() - found["thick"].keys())),
        tuple(sorted(found["thick"].keys() - found["thin"].keys())),
    )


def as_expression(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression over whole paths with slashes.

    Raises:
        UsageError: an unknown placeholder; the message lists those that there are.

    >>> as_expression("{split}/thin/{case}_1mm.nii*").fullmatch("test/thin/a-7_1mm.nii.gz").groupdict()
    {'split': 'test', 'case': 'a-7'}
    >>> as_expression("{case}/{case}.nii.gz").fullmatch("a/b.nii.gz") is None
    True
    """
    made, seen = "", set()
    for part in re.split(r"(\{\w*\}|\*)", pattern.replace(os.sep, "/").removeprefix("./")):
        name = part[1:-1]
        if part == "*":
            made += "[^/]*"
        elif not part.startswith("{"):
            made += re.escape(part)
        elif name not in PLACEHOLDERS:
            known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            raise UsageError(f"{part} in the pattern {pattern!r} is no placeholder; there are {known} and *.")
        else:
            made += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
    return re.compile(made)


def _by_case(root: Path, pattern: str, name: str) -> dict[str, tuple[Path, dict[str, str]]]:
    """Case -> its path, and what the placeholders stood for."""
    expression = as_expression(pattern)
    found: dict[str, tuple[Path, dict[str, str]]] = {}
    for path in _paths(root):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match is None:
            continue
        named = match.groupdict()
        case = named["case"]
        if case in found:
            raise InputError(
                f"Two {name} files fit case {case!r}: {found[case][0].name!r} and {path.name!r}; make {{case}} in the "
                "pattern span what tells them apart."
            )
        found[case] = path, named
    return found


def _paths(root: Path) -> Iterator[Path]:
    """All files and folders below a folder, in order."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        yield from (Path(folder) / name for name in sorted([*folders, *files]))


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
