"""Made-up names, words from short lists, and the secret key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from thinslice.data.hospital.deidentify import Pseudonyms, kernel_name, maker, new_key, without_names
from thinslice.errors import InputError, OutputError


def test_a_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")
    assert len(key) == 32 and new_key(tmp_path / "key") == key != new_key(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"secret", b"00" * 31, b"\xff" * 64):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(InputError, match="holds no key"):
            new_key(tmp_path / "key")
    with pytest.raises(OutputError, match="does not exist"):
        new_key(tmp_path / "absent" / "key")


def test_names_depend_on_the_key_and_tell_nothing() -> None:
    one, other = Pseudonyms(bytes(32)), Pseudonyms(bytes([1] * 32))
    assert one.patient("4711") != other.patient("4711")
    assert one.patient("4711")[1:] != one.study("4711")[1:]
    assert "4711" not in one.patient("4711") and len(one.patient("x" * 1000)) == len(one.patient("")) == 13


@pytest.mark.parametrize("text", ["Kanarienvogel^Gelb", "scanner of Dr. Doe", "\u00fc\x00", "ge\u00e4ndert by hand"])
def test_free_text_does_not_get_through(text: str) -> None:
    assert maker(text) in ("other", "GE", "unknown")
    assert kernel_name(text * 3) == ""


def test_sentences_lose_every_file_name() -> None:
    sentence = "Skipped: DOE.dcm: empty file; DOE.dcm.old: not DICOM; such as 'JANE.dcm'."
    assert without_names(sentence, ["DOE.dcm", "DOE.dcm.old", "JANE.dcm", ""]) == (
        "Skipped: a file: empty file; a file: not DICOM; such as a file."
    )
