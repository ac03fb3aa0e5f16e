"""Skips that are expected, each with the condition under which this machine may skip."""

from __future__ import annotations

import ast
import importlib.util
import mmap
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from support.browser import AXE_SCRIPT
from support.limits import PRIVATE_MOUNTS
from thinslice.system.resources import peak_memory_mib

PROJECT = Path(__file__).resolve().parents[2]

PAGE = PROJECT / "page" / "dist"
"""What `make page` builds."""


def shared_folder() -> Path:
    """The folder of shared data: THINSLICE_SHARED, or `shared` beside the repository; it need not exist."""
    return Path(os.environ.get("THINSLICE_SHARED", PROJECT.parent / "shared")).resolve()


def _lacks_module(name: str) -> bool:
    return importlib.util.find_spec(name) is None


def _lacks_moto() -> bool:
    return any(_lacks_module(name) for name in ("moto", "flask", "flask_cors"))


def _lacks_programs(*names: str) -> bool:
    return any(shutil.which(name) is None for name in names)


def _is_root() -> bool:
    return getattr(os, "geteuid", lambda: -1)() == 0


@dataclass(frozen=True)
class ExpectedSkip:
    """A reason to skip and the condition under which it is right.

    Attributes:
        reason: regular expression; it is searched for in the reason that pytest records.
        when: the condition, as a reader of a test report needs it.
        holds: whether the condition holds on this machine.
    """

    reason: str
    when: str
    holds: Callable[[], bool]


EXPECTED = (
    # With the folder present, a missing file in it is not expected.
    ExpectedSkip(r"^shared data absent", "no folder THINSLICE_SHARED", lambda: not shared_folder().is_dir()),
    ExpectedSkip(r"OpenVINO is not installed", "no openvino", lambda: _lacks_module("openvino")),
    ExpectedSkip(r"^no package index", "the package index cannot be reached (a heavy test)", lambda: True),
    ExpectedSkip(r"could not import 'SimpleITK'", "no SimpleITK", lambda: _lacks_module("SimpleITK")),
    ExpectedSkip(r"could not import 'anywidget'", "no anywidget", lambda: _lacks_module("anywidget")),
    ExpectedSkip(r"could not import 'nbclient'", "no nbclient", lambda: _lacks_module("nbclient")),
    ExpectedSkip(r"could not import 'ipykernel'", "no ipykernel", lambda: _lacks_module("ipykernel")),
    ExpectedSkip(r"could not import 'onnx'", "no onnx", lambda: _lacks_module("onnx")),
    ExpectedSkip(r"could not import 'onnxscript'", "no onnxscript", lambda: _lacks_module("onnxscript")),
    ExpectedSkip(r"could not import 'onnxruntime'", "no onnxruntime", lambda: _lacks_module("onnxruntime")),
    ExpectedSkip(r"could not import 'openjpeg'", "no pylibjpeg-openjpeg", lambda: _lacks_module("openjpeg")),
    ExpectedSkip(r"could not import 'jpeg_ls'", "no pyjpegls", lambda: _lacks_module("jpeg_ls")),
    ExpectedSkip(r"could not import 'dcm2niix'", "no dcm2niix", lambda: _lacks_module("dcm2niix")),
    ExpectedSkip(r"could not import 'torchio'", "no torchio", lambda: _lacks_module("torchio")),
    ExpectedSkip(r"could not import 'napari.layers'", "no napari", lambda: _lacks_module("napari")),
    ExpectedSkip(r"could not import 'monai'", "no monai", lambda: _lacks_module("monai")),
    ExpectedSkip(r"could not import 'fire'", "no fire, which monai.bundle needs", lambda: _lacks_module("fire")),
    ExpectedSkip(r"could not import 'skimage", "no scikit-image", lambda: _lacks_module("skimage")),
    ExpectedSkip(r"could not import 'highdicom", "no highdicom", lambda: _lacks_module("highdicom")),
    ExpectedSkip(r"axe-core", "no viewer/node_modules: npm ci there", lambda: not AXE_SCRIPT.is_file()),
    ExpectedSkip(r"could not import 'lightning_fabric", "no lightning", lambda: _lacks_module("lightning_fabric")),
    ExpectedSkip(r"could not import 'fastrad'", "no fastrad", lambda: _lacks_module("fastrad")),
    ExpectedSkip(r"could not import 'fastapi'", "no fastapi (the serve extra)", lambda: _lacks_module("fastapi")),
    ExpectedSkip(r"could not import 's3fs'", "no s3fs (the s3 extra)", lambda: _lacks_module("s3fs")),
    ExpectedSkip(r"could not import 'moto.server'", "no moto with Flask", lambda: _lacks_moto()),
    ExpectedSkip(r"could not import 'ray'", "no ray (the ray extra)", lambda: _lacks_module("ray")),
    ExpectedSkip(r"^no network of their own", "no unshare or ip", lambda: _lacks_programs("unshare", "ip")),
    ExpectedSkip(
        r"could not import 'pynetdicom'", "no pynetdicom (the node extra)", lambda: _lacks_module("pynetdicom")
    ),
    ExpectedSkip(
        r"could not import 'dicomweb_client'",
        "no dicomweb-client (the node extra)",
        lambda: _lacks_module("dicomweb_client"),
    ),
    ExpectedSkip(
        r"^no real peers",
        "no Orthanc, dcmtk or dicom3tools, or no unshare",
        lambda: any(shutil.which(name) is None for name in ("Orthanc", "storescu", "dciodvfy", "unshare", "ip")),
    ),
    ExpectedSkip(r"could not import 'uvicorn'", "no uvicorn (the serve extra)", lambda: _lacks_module("uvicorn")),
    ExpectedSkip(r"could not import 'playwright'", "no playwright", lambda: _lacks_module("playwright")),
    ExpectedSkip(
        r"no viewer in this installation",
        "the viewer is not built",
        lambda: not (PROJECT / "src" / "thinslice" / "pictures" / "viewer" / "viewer.js").is_file(),
    ),
    ExpectedSkip(r"the page is not built", "no page/dist", lambda: not (PAGE / "thinslice.html").is_file()),
    ExpectedSkip(r"program chromium", "no program chromium", lambda: shutil.which("chromium") is None),
    ExpectedSkip(r"dciodvfy", "no program dciodvfy", lambda: shutil.which("dciodvfy") is None),
    ExpectedSkip(r"program openssl", "no program openssl", lambda: shutil.which("openssl") is None),
    ExpectedSkip(r"program ssh-keygen", "no program ssh-keygen", lambda: shutil.which("ssh-keygen") is None),
    ExpectedSkip(r"gzip program", "no program gzip", lambda: shutil.which("gzip") is None),
    ExpectedSkip(r"CUDA", "no CUDA device", lambda: not _has_cuda()),
    ExpectedSkip(r"\broot\b", "run as root", _is_root),
    ExpectedSkip(r"Linux|forks are unsafe", "not Linux", lambda: sys.platform != "linux"),
    ExpectedSkip(
        r"glibc",
        "not Linux with glibc",
        lambda: platform.libc_ver()[0] != "glibc" or not hasattr(mmap, "MADV_HUGEPAGE"),
    ),
    ExpectedSkip(r"Windows|POSIX|signals", "not POSIX", lambda: os.name != "posix"),
    ExpectedSkip(r"does not report it", "no peak memory", lambda: peak_memory_mib() is None),
    ExpectedSkip(r"the right to mount", "may not mount", lambda: not _may_mount()),
    ExpectedSkip(r"program openssl", "no program openssl", lambda: shutil.which("openssl") is None),
    ExpectedSkip(r"/dev/full", "no /dev/full", lambda: not Path("/dev/full").exists()),
    ExpectedSkip(r"/dev/zero", "no /dev/zero", lambda: not Path("/dev/zero").exists()),
    ExpectedSkip(r"file system where nobody", "no /proc", lambda: not Path("/proc/self").is_dir()),
    ExpectedSkip(r"no private mounts", "not allowed to mount", lambda: not PRIVATE_MOUNTS),
)


def _may_mount() -> bool:
    """Whether this process may mount file systems: capability 21, CAP_SYS_ADMIN."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> 21 & 1)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def reasons_in(source: str) -> list[str]:
    """The reasons of all skips that a test module states, as pytest records them.

    Of a reason that is put together at run time only the text before the first placeholder.

    >>> reasons_in('pytest.importorskip("numpy"); pytest.skip(f"no file {name}")')
    ["could not import 'numpy'", 'no file ']
    """
    reasons = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        name = call.func.attr
        if name not in ("skip", "skipif", "importorskip"):
            continue
        stated = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
        text = (stated or call.args[:1])[0]
        if isinstance(text, ast.JoinedStr):
            text = text.values[0]
        assert isinstance(text, ast.Constant) and isinstance(text.value, str), ast.unparse(call)
        reasons.append(f"could not import {text.value!r}" if name == "importorskip" else text.value)
    return reasons


def expected(reason: str, table: Iterable[ExpectedSkip] = EXPECTED) -> ExpectedSkip | None:
    """The table's row for a skip with this reason whose condition holds here; None for a skip that is not expected."""
    return next((row for row in table if re.search(row.reason, reason) and row.holds()), None)
