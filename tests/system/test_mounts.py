"""Kinds of file systems, from the lines that Linux gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinslice.system.mounts import kind_at, network_file_system

MOUNTS = """\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw - proc proc rw
30 20 0:40 / /data rw - xfs /dev/sdb rw
31 30 0:41 / /data/share rw - nfs4 host:/x rw
32 30 0:42 / /data/over rw - ext4 /dev/sdc rw
33 30 0:43 / /data/over rw - cifs //host/x rw
damaged line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/data/q", "xfs"),
        ("/data/share", "nfs4"),
        ("/data/share/deep/q", "nfs4"),
        ("/data/shared", "xfs"),
        ("/data/over/q", "cifs"),
        ("/", "ext4"),
    ],
)
def test_the_innermost_and_latest_mount_decides(path: str, kind: str) -> None:
    assert kind_at(Path(path), MOUNTS) == kind


def test_without_the_list_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind_at(tmp_path, "") is None
    monkeypatch.setattr("thinslice.system.mounts._MOUNTS", tmp_path / "missing")
    assert network_file_system(tmp_path) is None
