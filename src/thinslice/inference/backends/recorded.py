"""The golden case as torch computed it, recorded: what onnxruntime is compared with where torch is not loaded.

Recorded are the embedded networks, by PyTorch's float32 on a CPU, at voxels drawn once. Another network of the same
sizes runs by the same graph, so the embedded one is compared in its place. `tools/write_graphs.py` writes the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.about import __version__
from thinslice.errors import ModelError
from thinslice.inference.backends.golden import (
    TOLERANCE_HU,
    RunWindows,
    Verdict,
    golden_cases,
    golden_windows,
    kept_verdict,
    machine,
)
from thinslice.intensity import WINDOW_WIDTH_HU
from thinslice.models import catalog, checkpoint
from thinslice.models.graphs.shipped import graph_path
from thinslice.models.stored import StoredNetwork, load_stored
from thinslice.models.thinnet_config import ThinNetConfig
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

RECORD = Path(__file__).parent / "golden.safetensors"
"""Values by "network channels factor"; the metadata hold the SHA-256 of each network's weights file."""

VOXELS = 1200
"""Thin voxels that are recorded of each case."""

MakeStored = Callable[[StoredNetwork, int, SliceProfile], RunWindows]
"""Makes a backend for a network, a factor and a profile."""


def examine_recorded(
    network: StoredNetwork, prepare: MakeStored, *, backend: str, version: str, threads: int
) -> Verdict:
    """The verdict on a backend, from the cache or from a comparison with what torch was recorded to give.

    Args:
        network: the network to be run, with or without its standard deviation.
        prepare: makes the backend.
        backend: its name.
        version: version of its library.
        threads: that it uses.
    """
    name = embedded_like(network.config)
    channels = 1 if network.deviation_scale is None else 2
    key = {
        "backend": backend,
        "channels": channels,
        "machine": machine(threads),
        "recorded": name,
        "tolerance_hu": TOLERANCE_HU,
        "versions": {"thinslice": __version__, backend: version},
        "weights": catalog.embedded_sha256(catalog.weights_path(name)),
    }
    return kept_verdict(key, lambda: _compared(name, channels, prepare))


def embedded_like(config: ThinNetConfig) -> str:
    """The embedded network of the same sizes.

    Raises:
        ModelError: when there is none; use torch.

    >>> embedded_like(ThinNetConfig(features=32, blocks=4))
    'fast'
    """
    wanted = graph_path(config, deviation=False)
    for name, entry in catalog.CATALOG.items():
        if entry.weights is not None:
            info = checkpoint.inspect(catalog.weights_path(name))
            if graph_path(ThinNetConfig(**info.config), deviation=False) == wanted:
                return name
    raise ModelError("No embedded network has the sizes of this one; use the backend torch.")


def sample(thin: Floats) -> Floats:
    """The voxels of a result that are recorded: (1, channels, depth, height, width) to (channels, `VOXELS`)."""
    chosen = np.random.default_rng(0).integers(thin[0, 0].size, size=VOXELS)
    return np.ascontiguousarray(thin[0].reshape(thin.shape[1], -1)[:, chosen])


def key_of(name: str, channels: int, factor: int) -> str:
    """Key of a case in the record.

    >>> key_of("default", 2, 5)
    'default 2 5'
    """
    return f"{name} {channels} {factor}"


@cache
def recorded() -> tuple[Mapping[str, Floats], Mapping[str, str]]:
    """The record: values by `key_of`, and the digest of each network's weights file by name."""
    from safetensors import safe_open

    with safe_open(str(RECORD), framework="numpy") as file:
        values = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        return values, file.metadata() or {}


def _compared(name: str, channels: int, prepare: MakeStored) -> Verdict:
    values, digests = recorded()
    network: Any = load_stored(name)
    if digests.get(name) != network.sha256:
        return Verdict(False, reason=f"the results of torch are not recorded for these weights of {name}")
    if channels == 2:
        network = replace(network, deviation_scale=1.0)
    windows = golden_windows(network)
    difference_hu = seconds = preparation_s = 0.0
    for factor, profile in golden_cases(network):
        begun = time.perf_counter()
        run = prepare(network, factor, profile)
        preparation_s = time.perf_counter() - begun
        begun = time.perf_counter()
        thin = run(windows)
        seconds = time.perf_counter() - begun
        here_hu = WINDOW_WIDTH_HU * float(np.abs(sample(thin) - values[key_of(name, channels, factor)]).max())
        if not here_hu <= TOLERANCE_HU:  # written so that NaN fails too
            return Verdict(False, here_hu)
        difference_hu = max(difference_hu, here_hu)
    return Verdict(True, difference_hu, seconds, preparation_s=preparation_s)
