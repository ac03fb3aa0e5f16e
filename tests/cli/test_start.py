"""Help and inspection start without the heavy packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import write_series
from thinslice.volume import Volume

HEAVY = ("torch", "highdicom", "numpy", "matplotlib", "scipy", "nibabel", "pydicom", "jinja2", "rich")
"""Not pydantic: typer itself parses arguments with it."""


def _loaded(*arguments: str) -> set[str]:
    program = (
        "import sys\n"
        "from thinslice.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as leaving:\n"
        "    assert not leaving.code, leaving.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "command", [[], ["upscale"], ["inspect"], ["demo"], ["evaluate"], ["dataset", "mini"]], ids=" ".join
)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    assert not _loaded(*command, "--help") & set(HEAVY)


def test_listing_models_loads_no_torch() -> None:
    assert not _loaded("models", "list") & {"torch", "numpy"}


def test_inspecting_dicom_needs_pydicom_alone(tmp_path: Path) -> None:
    write_series(tmp_path / "series", shape=(3, 16, 16))
    loaded = _loaded("inspect", str(tmp_path / "series"))
    assert "pydicom" in loaded
    assert not loaded & {"torch", "highdicom", "matplotlib", "SimpleITK", "nibabel"}


# What upscales without torch

FORBID_TORCH = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "einops"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
"""

UPSCALE_ALL = """
import json
import os
from thinslice.cli import main

for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as leaving:
        print("CODE", leaving.code, file=sys.stderr)
assert not {"torch", "einops"} & set(sys.modules)
"""


def _without_torch(*commands: list[str]) -> tuple[list[int], str]:
    """Exit codes of commands, and what was printed, in a Python that has no torch."""
    done = subprocess.run(
        [sys.executable, "-c", FORBID_TORCH + UPSCALE_ALL, json.dumps(commands)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    codes = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("CODE ")]
    return codes, done.stdout + done.stderr


def _thick(tmp_path: Path) -> Path:
    """A NIfTI of float32, whose thin volumes are not rounded."""
    volume = smooth_volume()
    path = tmp_path / "thick.nii.gz"
    thinslice.write(Volume(volume.hu.astype(np.float32) + 0.25, volume.geometry), path)
    return path


def _difference_hu(path: Path, expected: Volume) -> float:
    return float(np.abs(thinslice.read(path).hu - expected.hu.astype(np.float32)).max())


def test_nifti_is_upscaled_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    thick = _thick(tmp_path)
    out = [str(tmp_path / name) for name in ("fast.nii.gz", "default.nii.gz", "sd.nii.gz", "cubic.nii.gz")]
    codes, _ = _without_torch(
        ["upscale", str(thick), out[0], "--model", "fast", "--quiet"],
        ["upscale", str(thick), out[1], "--uncertainty", out[2], "--backend", "onnxruntime", "--quiet"],
        ["upscale", str(thick), out[3], "--model", "cubic-consistent", "--quiet"],
    )
    assert codes == [0, 0, 0]
    source = thinslice.read(thick)
    assert _difference_hu(Path(out[0]), thinslice.upscale(source, model="fast", backend="torch")) <= 0.01
    thin, deviation = thinslice.upscale_with_uncertainty(source, backend="torch")
    assert _difference_hu(Path(out[1]), thin) <= 0.01
    assert _difference_hu(Path(out[2]), deviation) <= 1 / 16  # to which they are rounded
    assert _difference_hu(Path(out[3]), thinslice.upscale(source, model="cubic-consistent", backend="torch")) <= 0.01


def test_dicom_is_upscaled_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    series = tmp_path / "series"
    write_series(series, shape=(6, 24, 24))
    codes, text = _without_torch(
        ["upscale", str(series), str(tmp_path / "thin"), "--model", "fast", "--quiet"],
        ["upscale", str(series), str(tmp_path / "all"), "--all", "--model", "fast", "--quiet"],
    )
    assert codes == [0, 0], text
    expected = thinslice.upscale(series, model="fast", backend="torch").hu.astype(int)
    for folder in (tmp_path / "thin", tmp_path / "all"):
        difference = np.abs(thinslice.read(folder).hu - expected)
        # Whole HU: of values within 0.01 HU, a few may round to the other side.
        assert difference.max() <= 1 and np.mean(difference > 0) < 0.005


def test_onnxruntime_collects_and_sends_nothing(tmp_path: Path) -> None:
    """By itself it leaves a device number and a queue of events in the user's cache folder with its first session."""
    pytest.importorskip("onnxruntime")
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    command = [sys.executable, "-m", "thinslice", "upscale", str(_thick(tmp_path)), str(tmp_path / "thin.nii.gz")]
    command += ["--model", "fast", "--backend", "onnxruntime", "--quiet"]
    done = subprocess.run(command, env={**environment, "HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert not [path for path in home.rglob("*") if "onnx" in path.name.casefold() or path.name == "Microsoft"]


def test_what_needs_torch_names_the_line_that_installs_it(tmp_path: Path) -> None:
    thick = _thick(tmp_path)
    out = str(tmp_path / "thin.nii.gz")
    codes, text = _without_torch(
        ["upscale", str(thick), out, "--backend", "torch"],
        ["upscale", str(thick), out, "--device", "cuda"],
        ["upscale", str(thick), out, "--uncertainty", str(tmp_path / "sd.nii.gz"), "--uncertainty-by", "ensemble"],
        ["models", "check", "default"],
        ["models", "export", "fast", str(tmp_path / "fast.onnx")],
    )
    assert codes == [2, 7, 4, 4, 4]
    assert text.count('pip install ".[torch]"') == 5 and "internal error" not in text


def test_onnxruntime_and_numpy_load_no_torch_where_it_is_installed(tmp_path: Path) -> None:
    thick = str(_thick(tmp_path))
    assert "torch" not in _loaded(
        "upscale", thick, str(tmp_path / "a.nii.gz"), "--model", "linear", "--backend", "numpy"
    )
    pytest.importorskip("onnxruntime")
    loaded = _loaded("upscale", thick, str(tmp_path / "b.nii.gz"), "--model", "fast", "--backend", "onnxruntime")
    assert "onnxruntime" in loaded and "torch" not in loaded


def test_importing_the_package_is_light() -> None:
    program = "import sys, thinslice; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {*HEAVY, "typer"}
