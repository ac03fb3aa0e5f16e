"""The plan of an archive on a Ray cluster of three nodes, in a network namespace of the tests' own.

The tests themselves are in `cluster_peers.py`. One test here runs them in a namespace in which only loopback exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.archives import planned, write_archive
from thinslice.archive.cluster.driver import run_plan_on_cluster
from thinslice.errors import UsageError


@pytest.mark.heavy
def test_three_nodes_in_a_network_of_their_own() -> None:
    pytest.importorskip("ray")
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no network of their own: install util-linux and iproute2")
    inside = [sys.executable, "-m", "pytest", "-m", "heavy", "-v", str(Path(__file__).with_name("cluster_peers.py"))]
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    begin = ["unshare", "--net", *user, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    done = subprocess.run([*begin, *inside], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.heavy
def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    write_archive(tmp_path / "ct", 1)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    with pytest.raises(UsageError, match="ray start --head"):
        run_plan_on_cluster(place, "127.0.0.1:9")
