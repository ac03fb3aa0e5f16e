"""Many clients at once, and a server that is killed in their midst; behind the marker for heavy tests."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from support.served import served
from thinslice.service.schemas import JobView
from thinslice.volume import Volume

pytestmark = pytest.mark.heavy

POLLERS, UPLOADERS, EACH = 50, 5, 3

GROWTH_MIB = 200
"""Most memory that the server process may take on top, for 50 clients; a result is 100 times smaller than that."""


def scan(folder: Path, uploader: int, number: int) -> Path:
    """A volume that no other uploader sends: its first voxel states whose it is."""
    volume = smooth_volume(depth=4, plane=24)
    hu = volume.hu.copy()
    hu[:, 0, 0] = 100 * uploader + number
    path = folder / f"{uploader}-{number}.nii.gz"
    thinslice.write(Volume(hu, volume.geometry), path)
    return path


def test_a_worker_that_is_killed_alone_is_replaced_and_its_job_done(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with served(tmp_path / "data") as server:
        client = server.client()
        job = client.submit(client.upload([scan(tmp_path, 1, 1)]), model="best")
        other = client.submit(job.source, model="linear")
        begun = threading.Event()
        while client.job(job).state == "queued":
            begun.wait(0.05)
        os.kill(server.worker("upscale-1"), signal.SIGKILL)
        done = [client.wait(each) for each in (job, other)]
        assert [each.state for each in done] == ["done", "done"]
        assert len(list((server.data / "results").iterdir())) == 2


@pytest.mark.parametrize("kills", [0, 3], ids=["undisturbed", "killed three times"])
def test_fifty_clients_poll_and_five_upload_and_no_job_is_lost_or_mixed_up(kills: int, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with served(tmp_path / "data", "--workers", "2") as server:
        begun_mib = server.memory_mib()
        ended = threading.Event()
        polled = [0] * POLLERS

        def poll(client_number: int) -> None:
            while not ended.is_set():
                try:
                    polled[client_number] += len(server.ask("GET", "/api/jobs").json()["jobs"]) >= 0
                except OSError:
                    ended.wait(0.1)

        def upload(uploader: int) -> list[tuple[int, JobView]]:
            client, made = server.client(), []
            for number in range(EACH):
                path = scan(tmp_path, uploader, number)
                source = client.patiently(lambda path=path: client.upload([path]))
                job = client.patiently(lambda source=source: client.submit(source, model="linear"))
                made.append((100 * uploader + number, job))
            return made

        with ThreadPoolExecutor(POLLERS + UPLOADERS) as pool:
            pollers = [pool.submit(poll, k) for k in range(POLLERS)]
            try:
                uploads = [pool.submit(upload, k) for k in range(UPLOADERS)]
                for k in range(kills):
                    while sum(polled) < POLLERS * (k + 1):
                        ended.wait(0.1)
                    server.kill()
                    server.start()
                jobs = [pair for each in uploads for pair in each.result()]
                client = server.client()
                done = [(mark, client.wait(job)) for mark, job in jobs]
                if not kills:
                    assert server.memory_mib() - begun_mib < GROWTH_MIB
            finally:
                ended.set()
            for each in pollers:
                each.result()
        assert len({job.id for _, job in done}) == UPLOADERS * EACH
        for mark, job in done:
            fetched = tmp_path / f"fetched-{mark}.nii.gz"
            client.download(job, "thin.nii.gz", fetched)
            np.testing.assert_array_equal(thinslice.read(fetched).hu[:, 0, 0], mark)
        assert len(list((server.data / "results").iterdir())) == UPLOADERS * EACH
        assert all(count > 0 for count in polled)
