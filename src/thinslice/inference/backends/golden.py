"""The golden case: a small synthetic chest on which every backend must agree with torch in float32 on the CPU.

Agreement and time are measured once per machine, network, backend and versions, and kept in the user's cache folder
(`thinslice.system.user_cache`), so that only the first run pays for them. The load of the machine is kept beside them:
times of a busy machine are measured again after an hour. A comparison that failed is not kept, as its cause may be
temporary.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.about import __version__
from thinslice.errors import ResourceError, ThinsliceError
from thinslice.inference.backends.torch_backend import TorchBackend, is_out_of_memory
from thinslice.intensity import WINDOW_WIDTH_HU, to_unit
from thinslice.models import checkpoint
from thinslice.planning import MAX_FACTOR, MIN_FACTOR
from thinslice.profile import SliceProfile
from thinslice.system import user_cache
from thinslice.system.cores import processor
from thinslice.typing import Floats

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored


RunWindows = Callable[[Floats], Floats]
"""Maps windows (batch, 1, D, H, W) in unit intensity to thin slices."""

MakeBackend = Callable[[int, SliceProfile], RunWindows]
"""Makes a backend for a factor and a profile."""

TOLERANCE_HU = 0.5
"""Largest accepted difference from torch in float32 on the CPU."""

PLANE = (157, 143)
"""Height and width of the golden case in pixels: odd, and no multiples of a patch or a stride."""

DEPTH = 12
"""Thick slices of the golden case, where the network takes any number."""

OTHER_WIDTH = 1.5
"""Thickness of slices over their distance in the golden case at factors that are not the network's usual one."""

LEAST_GAIN = 0.25
"""Share of torch's time that a backend must save on the golden case: on larger windows torch's overhead is smaller. A
backend that saved 18 % there took a tenth longer for whole chests (docs/results/speed.md)."""

ROUNDS = (3, 8)
"""Fewest and most passes that are timed; the fastest counts."""

TIMING_BUDGET_S = 1.0
"""Beyond the fewest, no pass is timed after this many seconds of one backend."""

KEPT_DAYS = 30
"""Days after which a verdict is measured again."""

BUSY = 0.5
"""Load for each core, before the measurement, above which its times may be those of other programs' work."""

KEPT_HOURS_WHEN_BUSY = 1.0
"""Hours after which a verdict that was measured on a busy machine is measured again."""


@dataclass(frozen=True)
class Verdict:
    """Result of the golden case for a backend.

    Attributes:
        agrees: whether the backend may be used.
        difference_hu: largest difference from torch in float32 on the CPU; None where the backend could not run.
        seconds: time of one pass over the golden case.
        reference_seconds: time of torch's pass.
        preparation_s: time before the first pass: loading, conversion, compilation.
        reason: cause of a failed run.
    """

    agrees: bool
    difference_hu: float | None = None
    seconds: float = 0.0
    reference_seconds: float = 0.0
    preparation_s: float = 0.0
    reason: str = ""

    def pays(self, share: float) -> bool:
        """Whether the backend saves a quarter or more of torch's time (`LEAST_GAIN`) on `share` times the work of the
        golden case, its preparation included.

        >>> faster = Verdict(True, 0.0, seconds=1.0, reference_seconds=3.0, preparation_s=10.0)
        >>> faster.pays(7), faster.pays(8)
        (False, True)
        """
        reference_s = self.reference_seconds * share
        return reference_s - self.seconds * share - self.preparation_s >= LEAST_GAIN * reference_s


def golden_windows(model: ThroughPlaneModel | Stored) -> Floats:
    """The golden case as input of a network: (1, 1, D, H, W), unit intensity, always the same.

    It holds air, lung, soft tissue, bone and metal, a vessel and a fissure oblique to the slices, and noise.
    """
    window = model.window
    depth = window.depth or max(window.min_depth, min(DEPTH, window.max_depth or DEPTH))
    z, y, x = np.meshgrid(np.arange(depth), *(np.linspace(-1.0, 1.0, extent) for extent in PLANE), indexing="ij")
    hu = np.full(z.shape, -1000.0)
    hu[(x / 0.9) ** 2 + (y / 0.8) ** 2 < 1.0] = 40.0
    for side in (-1.0, 1.0):
        hu[((x - 0.42 * side) / 0.33) ** 2 + (y / 0.6) ** 2 < 1.0 + 0.02 * z] = -860.0
    lung = hu == -860.0
    hu[lung & (np.abs(y - 0.6 * x + 0.1 - 0.05 * z) < 0.02)] = -600.0
    hu[lung & ((x - 0.3) ** 2 + (y - 0.3 + 0.08 * z) ** 2 < 0.003)] = 30.0
    hu[(np.abs(x) < 0.12) & (np.abs(y - 0.55) < 0.1)] = 700.0
    hu[(np.abs(x + 0.7) < 0.02) & (np.abs(y) < 0.04) & (z == depth // 2)] = 3000.0
    hu += 15.0 * np.random.default_rng(0).standard_normal(hu.shape)
    return np.clip(to_unit(hu.astype(np.float32)), 0.0, 1.0)[None, None]


def golden_cases(model: ThroughPlaneModel | Stored) -> list[tuple[int, SliceProfile]]:
    """Factors and profiles at which a network is compared; the usual factor, whose times count, comes last."""
    # Factors of the network beyond those of the product do not matter here.
    able = sorted(f for f in model.factors if MIN_FACTOR <= f <= MAX_FACTOR) or sorted(model.factors)
    usual = model.default_factor if model.default_factor in able else able[0]
    others = sorted({able[0], able[-1]} - {usual})
    # Profiles become constants of recorded graphs, so another width is compared too.
    return [*((f, SliceProfile.mean(f, width=OTHER_WIDTH)) for f in others), (usual, SliceProfile.mean(usual))]


def voxels(model: ThroughPlaneModel | Stored) -> int:
    """Number of thick voxels of the golden case for a network."""
    return int(golden_windows(model).size)


def examine(
    model: ThroughPlaneModel,
    prepare: MakeBackend,
    *,
    backend: str,
    device: str = "cpu",
    version: str = "",
    channels: int = 1,
    tolerance_hu: float = TOLERANCE_HU,
) -> Verdict:
    """The verdict on a backend, from the cache or from a comparison with torch in float32 on the CPU.

    Args:
        model: any network; it stays on its device.
        prepare: makes the backend to be compared; it may move the model.
        backend: the backend's name, and its precision where that is not float32.
        device: the backend's device.
        version: version of the backend's library, where that is not torch.
        channels: output channels of the network.
        tolerance_hu: the largest accepted difference.
    """
    key = {
        "backend": backend,
        "channels": channels,
        "device": _device_name(device),
        "golden": _digest(golden_windows(model).tobytes()),
        "machine": machine(_torch_threads()),
        "model": fingerprint(model),
        "tolerance_hu": tolerance_hu,
        "versions": {"thinslice": __version__, "torch": _torch_version(), backend: version},
    }
    return kept_verdict(key, lambda: _compared(model, prepare, channels, tolerance_hu))


def kept_verdict(key: Mapping[str, Any], compare: Callable[[], Verdict]) -> Verdict:
    """The verdict of a comparison, from the cache or made now.

    Args:
        key: everything that the verdict depends on, JSON values.
        compare: makes it; a comparison that fails with an error is a verdict too, which is not kept.
    """
    name = f"backends/{_digest(json.dumps(key, sort_keys=True).encode())[:32]}.json"
    known = _kept(name)
    if known is not None:
        return known
    load = load_per_core()
    try:
        verdict = compare()
    except ResourceError:
        return Verdict(False, reason="memory was short")
    except ThinsliceError as error:
        return Verdict(False, reason=str(error).partition(";")[0])  # the caller adds its own advice
    except RuntimeError as error:
        # A device's kernels may be missing, or fail with errors of any kind.
        return Verdict(False, reason="memory was short" if is_out_of_memory(error) else type(error).__name__)
    user_cache.keep(name, {**key, "load_per_core": load, "verdict": asdict(verdict)})
    return verdict


def load_per_core() -> float | None:
    """Programs that wanted a core in the last minute, for each core of the machine; None where it is unknown."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):  # Windows has no such count
        return None


def _kept(name: str) -> Verdict | None:
    """The verdict of an earlier run; None where there is none, or where it has to be measured again."""
    value = user_cache.load(name, max_age_s=KEPT_DAYS * 86400.0)
    load = (value or {}).get("load_per_core")
    if isinstance(load, int | float) and load > BUSY:
        value = user_cache.load(name, max_age_s=KEPT_HOURS_WHEN_BUSY * 3600.0)
    return _from_json(value)


def fingerprint(model: ThroughPlaneModel) -> str:
    """Hexadecimal digest of a network: classes, configs and scales of it and of networks inside it, and weights."""
    digest = hashlib.sha256()
    for module in model.modules():
        kind, scale = type(module), getattr(module, "scale", None)
        config: Any = getattr(module, "config", None)
        if module is model or config is not None:
            described = config.model_dump_json() if hasattr(config, "model_dump_json") else repr(config)
            scaled = repr(scale) if isinstance(scale, float) else ""
            digest.update(f"{kind.__module__}.{kind.__qualname__} {described} {scaled};".encode())
    digest.update(checkpoint.tensors_digest(model).encode())
    return digest.hexdigest()


@cache
def machine(threads: int) -> dict[str, Any]:
    """Properties of the machine that affect a network's time and rounding on the CPU."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor(),
        "threads": threads,
    }


def _compared(model: ThroughPlaneModel, prepare: MakeBackend, channels: int, tolerance_hu: float) -> Verdict:
    """The verdict of a comparison; errors go to the caller."""
    import copy

    reference_model = copy.deepcopy(model).to("cpu")
    windows = golden_windows(model)
    cases = golden_cases(model)
    difference_hu = 0.0
    verdict = Verdict(False, reason="the network can do no factor")
    for factor, profile in cases:
        reference = TorchBackend(reference_model, "cpu", factor=factor, profile=profile, channels=channels)
        expected = reference(windows)
        begun = time.perf_counter()
        candidate = prepare(factor, profile)
        output = candidate(windows)
        first_s = time.perf_counter() - begun
        here_hu = WINDOW_WIDTH_HU * float(np.abs(output - expected).max())
        if not here_hu <= tolerance_hu:  # written so that NaN fails too
            return Verdict(False, here_hu)
        difference_hu = max(difference_hu, here_hu)
        if (factor, profile) == cases[-1]:
            reference_s, candidate_s = _timed(reference, candidate, windows)
            verdict = Verdict(True, difference_hu, candidate_s, reference_s, max(0.0, first_s - candidate_s))
    return verdict


def _timed(first: RunWindows, second: RunWindows, windows: Floats) -> tuple[float, float]:
    """Seconds of the fastest pass of each, alternating, as the load on the machine varies."""
    times: tuple[list[float], list[float]] = ([], [])
    for done in range(1, ROUNDS[1] + 1):
        for backend, spent in zip((first, second), times, strict=True):
            begun = time.perf_counter()
            backend(windows)
            spent.append(time.perf_counter() - begun)
        if done >= ROUNDS[0] and max(map(sum, times)) > TIMING_BUDGET_S:
            break
    return min(times[0]), min(times[1])


def _from_json(value: dict[str, Any] | None) -> Verdict | None:
    try:
        verdict = (value or {})["verdict"]
        return Verdict(
            agrees=verdict["agrees"] is True,
            difference_hu=None if verdict["difference_hu"] is None else float(verdict["difference_hu"]),
            seconds=float(verdict["seconds"]),
            reference_seconds=float(verdict["reference_seconds"]),
            preparation_s=float(verdict["preparation_s"]),
            reason=str(verdict["reason"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return torch.cuda.get_device_name(device)


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def _torch_version() -> str:
    import torch

    return torch.__version__


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
