"""A store of objects on loopback: moto's server, with the environment that clients of S3 read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "thinslice",
    "AWS_SECRET_ACCESS_KEY": "loopback-only",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
BUCKET = "scans"


@contextmanager
def served_store(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve an empty store with one bucket; yields its address, to which the environment points."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request would bury a report
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        client().call_s3("create_bucket", Bucket=BUCKET)
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client() -> Any:
    """A client of its own, with no cache."""
    import s3fs

    return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)


def put_tree(root: Path, url: str) -> None:
    """Write every file below a folder as an object."""
    files = client()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            files.pipe_file(f"{url.removeprefix('s3://')}/{path.relative_to(root).as_posix()}", path.read_bytes())


def stored_results(url: str) -> dict[str, bytes]:
    """Content of every file of every result, by its place below the outputs; objects that no manifest names raise."""
    import json

    files, base = client(), url.removeprefix("s3://")
    contents = {name.removeprefix(f"{base}/"): files.cat_file(name) for name in files.find(base, refresh=True)}
    manifests = {name: json.loads(content) for name, content in contents.items() if name.endswith(".json")}
    named = {each["name"] for manifest in manifests.values() for each in manifest["objects"]}
    assert named == set(contents) - set(manifests)
    found: dict[str, bytes] = {}
    for name, manifest in manifests.items():
        output = name.removesuffix(".json")
        for each in manifest["objects"]:
            inside = each["name"].removeprefix(f"{output}/{manifest['attempt']}/")
            content = contents[each["name"]]
            assert len(content) == each["size"]
            found[output if output.endswith(inside) else f"{output}/{inside}"] = content
    return found
