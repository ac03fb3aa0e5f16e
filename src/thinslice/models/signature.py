"""Detached signatures of the list of weights, checked by OpenSSH.

The package holds digests, and whoever can replace the package can replace them too. A signature shows who made the
list: the maintainer signs SHA256SUMS with a key that is in no repository, and a user checks it against a public key
that came another way.

Source: the format is OpenSSH's SSHSIG, made with `ssh-keygen -Y sign -n thinslice-weights -f KEY SHA256SUMS`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from thinslice.errors import CheckpointError, MissingExtraError, UnreadableError

NAMESPACE = "thinslice-weights"
"""What the signature is for; a signature of the same key for another purpose does not count."""

LIMIT_S = 30.0
"""Time after which the program is taken to hang."""


def check_signature(signed: Path, signature: Path, signers: Path) -> str:
    """The signer of a file.

    Args:
        signed: the list of digests.
        signature: its detached signature.
        signers: public keys that are trusted, as OpenSSH's allowed_signers: a name, then the key, one a line.

    Returns:
        The signer's name in `signers`.

    Raises:
        UnreadableError: a file that is missing; check its path.
        MissingExtraError: no OpenSSH on this machine; install it (8.1 or later).
        CheckpointError: no key of `signers` made this signature of this file; do not use the weights.
    """
    for path in (signed, signature, signers):
        if not path.is_file():
            raise UnreadableError(f"There is no file {str(path)!r}; check the path.")
    program = shutil.which("ssh-keygen")
    if program is None:
        raise MissingExtraError("ssh-keygen is not installed, which checks signatures; install OpenSSH 8.1 or later.")
    found = _run(program, "find-principals", "-s", str(signature), "-f", str(signers))
    for name in found.stdout.split() if found.returncode == 0 else ():
        arguments = ("verify", "-n", NAMESPACE, "-I", name, "-s", str(signature), "-f", str(signers))
        if _run(program, *arguments, content=signed.read_bytes()).returncode == 0:
            return name
    raise CheckpointError(
        f"{signature.name} is no signature of {signed.name} by a key in {signers.name}: the list or the signature was "
        "changed, or another key made it. Do not use these weights."
    )


def _run(program: str, *arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program, "-Y", *arguments], input=content, capture_output=True, check=False, timeout=LIMIT_S)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode("utf-8", "replace"), "")
