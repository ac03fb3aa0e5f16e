"""One contestant of speed/compare.py in its own process, which receives requests as lines of JSON.

    python speed/compare_worker.py CONTESTANT THREADS [WEIGHTS]

Contestants have separate processes because allocator settings hold for a whole process: the plain reference runs with
the default allocator, like the released code. CONTESTANT is "machine", "plain", or MODEL/BACKEND.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_tvsrn import FACTOR as PLAIN_FACTOR
from plain_tvsrn import PlainTVSRN
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, int, int]

TVSRN = "tvsrn-released"


def tvsrn(weights: Path | None, factor: int = PLAIN_FACTOR) -> Any:
    """`tvsrn-released`, with the weights of a released checkpoint or random ones whose output varies as much."""
    from thinslice.models import catalog
    from thinslice.models.released import tvsrn_checkpoint

    if weights is not None and factor == PLAIN_FACTOR:
        return tvsrn_checkpoint.build_released(tvsrn_checkpoint.read_released(weights))
    torch.manual_seed(0)
    model = catalog.build(TVSRN, factor=factor).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def window(shape: Shape) -> torch.Tensor:
    """Input for the comparison of outputs: (1, 1, *shape), unit intensity."""
    return torch.from_numpy(np.random.default_rng(0).random((1, 1, *shape), dtype=np.float32))


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def peak_mib() -> float:
    """Peak memory of this process so far, MiB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class Traffic(TorchDispatchMode):
    """Counter of the bytes that operators read and write, each operand once; views count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs or {})), _tensors(result)
        storages = {tensor.untyped_storage().data_ptr() for tensor in read}
        in_place = function._schema.is_mutable
        new = [tensor for tensor in written if tensor.untyped_storage().data_ptr() not in storages]
        if (new or in_place) and not str(function).startswith(("aten.empty", "aten.detach")):
            self.bytes += sum(_bytes(tensor) for tensor in read) + sum(_bytes(tensor) for tensor in written)
        return result


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, (list, tuple)) else []


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor in memory; an expanded tensor counts once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


class Contestant(ABC):
    """A contestant: its runs and the counted costs of a pass."""

    @abstractmethod
    def run(self, shape: Shape, factor: int) -> float:
        """Seconds for one volume or window of this shape in thick voxels."""

    def facts(self, shape: Shape, factor: int) -> dict[str, Any]:
        """Counts without a clock: operations, and windows of the plan."""
        return {}

    def bytes(self, shape: Shape, factor: int) -> int | None:
        """Bytes that the operators of one window read and write; None where torch does not run them."""
        return None

    def output(self, shape: Shape) -> np.ndarray | None:
        """The thin slices of `window`; None for a contestant with clamped output."""
        return None


class Machine(Contestant):
    """Rates of the machine."""

    def run(self, shape: Shape, factor: int) -> float:
        raise NotImplementedError

    def facts(self, shape: Shape, factor: int) -> dict[str, Any]:
        """Median rates: float32 products by torch's `@` and by oneDNN (GFLOP/s), copies (GB/s, read and written)."""
        from thinslice.models.blocks.onednn import linear

        size, copied = 2048, 64 << 20
        with torch.inference_mode():
            a, source = torch.randn(size, size), torch.randn(copied)
            target = torch.empty_like(source)
            layer = torch.nn.Linear(size, size)
            operations = 2 * size**3
            return {
                "matrix_gflops": operations / self._median_s(lambda: a @ a) / 1e9,
                "onednn_gflops": operations / self._median_s(lambda: linear(a, layer)) / 1e9,
                "copy_gbs": 2 * 4 * copied / self._median_s(lambda: target.copy_(source)) / 1e9,
            }

    @staticmethod
    def _median_s(work: Callable[[], Any]) -> float:
        return statistics.median([timed(work) for _ in range(8)][1:])


class Plain(Contestant):
    """The plain reference TVSRN, window by window; of the package only the reader of weights runs."""

    def __init__(self, weights: Path | None) -> None:
        self._weights_model = tvsrn(weights)
        self._plain: dict[Shape, PlainTVSRN] = {}

    def _built(self, shape: Shape) -> PlainTVSRN:
        if shape not in self._plain:
            self._plain[shape] = PlainTVSRN(shape[1:], self._weights_model.state_dict())
        return self._plain[shape]

    def run(self, shape: Shape, factor: int) -> float:
        plain, x = self._built(shape), window(shape)
        with torch.no_grad():
            return timed(lambda: plain(x))

    def facts(self, shape: Shape, factor: int) -> dict[str, Any]:
        return plan_facts(self._weights_model, shape, factor)

    def bytes(self, shape: Shape, factor: int) -> int:
        with torch.no_grad(), Traffic() as traffic:
            self._built(shape)(window(shape))
        return traffic.bytes

    def output(self, shape: Shape) -> np.ndarray:
        with torch.no_grad():
            return self._built(shape)(window(shape)).numpy()


class Packaged(Contestant):
    """A model of the catalog in a backend, run like `thinslice upscale` without files."""

    def __init__(self, model: str, backend: str, weights: Path | None) -> None:
        self._name, self._backend, self._weights = model, backend, weights
        self._models: dict[int, Any] = {}
        self._streams: dict[tuple[Shape, int], Any] = {}

    def _model(self, factor: int) -> Any:
        from thinslice.models.load import load_model

        key = factor if self._name == TVSRN else 0
        if key not in self._models:
            built = tvsrn(self._weights, factor) if self._name == TVSRN else load_model(self._name)
            self._models[key] = built
        return self._models[key]

    def run(self, shape: Shape, factor: int) -> float:
        from thinslice.inference.upscale import upscale_slabs

        if (shape, factor) not in self._streams:
            self._streams = {
                (shape, factor): upscale_slabs(
                    soft_tissue(shape, factor),
                    model=self._model(factor),
                    factor=factor,
                    backend=self._backend,
                    device="cpu",
                    force=True,
                )
            }
        stream = self._streams[shape, factor]

        def consume() -> None:
            for _ in stream:
                pass

        return timed(consume)

    def facts(self, shape: Shape, factor: int) -> dict[str, Any]:
        return plan_facts(self._model(factor), shape, factor, self._backend)

    def bytes(self, shape: Shape, factor: int) -> int | None:
        if self._backend != "torch":
            return None
        model, x = self._model(factor), window(shape)
        with torch.inference_mode(), Traffic() as traffic:
            model(x, factor=factor)
        return traffic.bytes

    def output(self, shape: Shape) -> np.ndarray | None:
        if self._name != TVSRN or self._backend != "torch":
            return None
        with torch.inference_mode():
            return self._model(PLAIN_FACTOR)(window(shape)).numpy()


def soft_tissue(shape: Shape, factor: int) -> Any:
    """Noise around water; no window counts as air, which would be skipped."""
    from thinslice.geometry import Geometry
    from thinslice.volume import Volume

    hu = np.random.default_rng(0).integers(-100, 200, shape, dtype=np.int16)
    return Volume(hu, Geometry(shape, (float(factor), 0.8, 0.8), (0.0, 0.0, 0.0)))


def plan_facts(model: Any, shape: Shape, factor: int, backend: str = "torch") -> dict[str, Any]:
    """Windows and operations of a volume under the model's own plan."""
    from thinslice.models import cost
    from thinslice.planning import plan_windows
    from thinslice.profile import SliceProfile

    plan = plan_windows(shape, factor, model.window.run_by(backend, "cpu"), profile=SliceProfile.mean(factor))
    shapes = [w.shape for w in plan.windows]
    operations = {distinct: cost.operations(model, distinct, factor) for distinct in set(shapes)}
    return {
        "plan": plan.name,
        "windows": len(shapes),
        "fed_voxels": sum(int(np.prod(one)) for one in shapes),
        "operations": sum(operations[one] for one in shapes),
    }


def contestant(name: str, weights: Path | None) -> Contestant:
    if name == "machine":
        return Machine()
    if name == "plain":
        return Plain(weights)
    model, _, backend = name.partition("/")
    return Packaged(model, backend or "torch", weights)


def main() -> None:
    name, threads, *weights = sys.argv[1:]
    # Answers go to the original standard output; prints of libraries go to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(int(threads))
    known: dict[str, Contestant] = {}
    for line in sys.stdin:
        request = json.loads(line)
        shape, factor = tuple(request.get("shape", ())), request.get("factor", PLAIN_FACTOR)
        try:
            # Counts without a clock may be requested from any worker.
            who = request.get("contestant", name)
            if who not in known:
                known[who] = contestant(who, Path(weights[0]) if weights else None)
            chosen = known[who]
            if request["do"] == "run":
                result: Any = chosen.run(shape, factor)
            elif request["do"] == "output":
                thin = chosen.output(shape)
                result = thin is not None
                if thin is not None:
                    np.save(request["path"], thin)
            else:
                result = getattr(chosen, request["do"])(shape, factor)
            answer = {"answer": result, "peak_mib": peak_mib()}
        except Exception as error:  # an unsupported case does not end the worker
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
