"""thinslice models export."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.command_line import Run

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_an_existing_file_is_kept_unless_asked_for(tmp_path: Path, run: Run) -> None:
    target = tmp_path / "a.onnx"
    target.write_bytes(b"mine")
    done = run("models", "export", "linear", target)
    assert done.code == 5 and "--overwrite" in done.text and target.read_bytes() == b"mine"
    done = run("models", "export", "linear", target, "--overwrite")
    assert done.code == 0 and "linear, factors 5, windows [4, 256, 256]" in done.out, done.err
    assert re.fullmatch(r"linear: recording the graph\nlinear: comparing onnxruntime with torch\n", done.err)
    assert len(target.read_bytes()) > 100 and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("default", "a.txt"), 2, "must end in .onnx"),
        (("unheard-of", "a.onnx"), 2, "neither a model name"),
        (("tvsrn", "a.onnx"), 4, "no weights"),
        (("default", "a.onnx", "--factor", "9"), 4, "it can do 2, 3, 4, 5, 6, 7, 8"),
        (("default", "a.onnx", "--depth", "9"), 2, "leave --depth and --plane out"),
        (("fast", "a.onnx", "--uncertainty"), 4, "not trained to estimate its uncertainty"),
        (("default", "missing/a.onnx"), 5, "create it first"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("models", "export", *arguments)
    assert done.code == code and words in done.text and not list(tmp_path.iterdir())


def test_without_the_extra_the_line_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = run("models", "export", "default", tmp_path / "a.onnx")
    assert done.code == 2 and 'pip install ".[export]"' in done.text and not list(tmp_path.iterdir())
