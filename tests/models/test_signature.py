"""A detached signature of the list of weights, with keys that the test makes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.command_line import Run, run
from thinslice.errors import CheckpointError, MissingExtraError, UnreadableError
from thinslice.models.catalog import WEIGHTS_FOLDER
from thinslice.models.signature import NAMESPACE, check_signature

__all__ = ["run"]

needs_openssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no program ssh-keygen")


def key(folder: Path, name: str) -> Path:
    made = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(made)], check=True)
    return made


def sign(signed: Path, by: Path, namespace: str = NAMESPACE) -> Path:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(by), str(signed)]
    subprocess.run(command, check=True, capture_output=True)
    return signed.with_name(f"{signed.name}.sig")


def trust(folder: Path, **keys: Path) -> Path:
    signers = folder / "allowed_signers"
    lines = [f"{name}@thinslice {path.with_suffix('.pub').read_text()}" for name, path in keys.items()]
    signers.write_text("".join(lines))
    return signers


@needs_openssh
def test_the_signer_is_named_and_every_change_is_found(tmp_path: Path) -> None:
    listed = tmp_path / "SHA256SUMS"
    listed.write_bytes((WEIGHTS_FOLDER / "SHA256SUMS").read_bytes())
    ours, theirs = key(tmp_path, "ours"), key(tmp_path, "theirs")
    signature, signers = sign(listed, ours), trust(tmp_path, release=ours)
    assert check_signature(listed, signature, signers) == "release@thinslice"
    refusal = "is no signature of SHA256SUMS by a key in allowed_signers"
    with pytest.raises(CheckpointError, match=refusal):
        check_signature(listed, signature, trust(tmp_path, release=theirs))
    trust(tmp_path, release=ours)
    listed.write_bytes(listed.read_bytes().replace(b"default", b"defbult"))
    with pytest.raises(CheckpointError, match=refusal):
        check_signature(listed, signature, signers)
    signature.unlink()
    with pytest.raises(CheckpointError, match=refusal):
        check_signature(listed, sign(listed, ours, namespace="file"), signers)
    signature.write_text("no signature")
    with pytest.raises(CheckpointError, match=refusal):
        check_signature(listed, signature, signers)


@needs_openssh
def test_on_the_command_line(tmp_path: Path, run: Run) -> None:
    listed = tmp_path / "SHA256SUMS"
    listed.write_bytes((WEIGHTS_FOLDER / "SHA256SUMS").read_bytes())
    ours = key(tmp_path, "ours")
    options = ("--signature", sign(listed, ours), "--signers", trust(tmp_path, release=ours))
    done = run("models", "verify", *options)
    assert done.code == 0 and done.out.endswith("SHA256SUMS: signed by release@thinslice\n")
    assert len(json.loads(run("models", "verify", *options, "--json").out)) == 3
    trust(tmp_path, release=key(tmp_path, "other"))
    assert run("models", "verify", *options).code == 4
    done = run("models", "verify", *options[:2])
    assert done.code == 2 and "--signature and --signers together" in done.text


def test_missing_files_and_a_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = tmp_path / "present"
    present.write_text("x")
    with pytest.raises(UnreadableError, match="There is no file"):
        check_signature(present, present, tmp_path / "absent")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="OpenSSH"):
        check_signature(present, present, present)
