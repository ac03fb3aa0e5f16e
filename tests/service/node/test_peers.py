"""The node among real peers: Orthanc, dcmtk and its own DICOMweb commands, in a network namespace of the tests' own.

The tests themselves are in `peers.py`. One test here runs them in a namespace in which only loopback exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.orthanc import PLUGIN

pytestmark = pytest.mark.heavy

PROGRAMS = {
    "Orthanc": "orthanc",
    "storescu": "dcmtk",
    "dciodvfy": "dicom3tools",
    "unshare": "util-linux",
    "ip": "iproute2",
}


def test_real_peers_in_a_network_of_their_own() -> None:
    pytest.importorskip("pynetdicom")
    pytest.importorskip("dicomweb_client")
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing or not PLUGIN.exists():
        pytest.skip(f"no real peers: install {' '.join(missing) or 'orthanc-dicomweb'}")
    inside = [sys.executable, "-m", "pytest", "-m", "heavy", "-v", str(Path(__file__).with_name("peers.py"))]
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    begin = ["unshare", "--net", *user, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    done = subprocess.run([*begin, *inside], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
