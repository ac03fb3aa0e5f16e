"""A network as an ONNX graph.

ThinNet becomes one graph for every factor, slice profile, depth and plane (`thinslice.models.graphs.any_factor`). Other
networks take the factor and the profile as Python values, which become constants: their graph belongs to one factor,
contiguous slices and one shape of window.

The packages that write and run ONNX are an extra, and are loaded by `load_packages` alone.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinslice.errors import ModelError, UsageError
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.graphs.any_factor import ThinNetGraph
from thinslice.models.thinnet import ThinNet
from thinslice.models.thinnet_config import description
from thinslice.profile import SliceProfile

if TYPE_CHECKING:
    import torch

METADATA_KEY = "thinslice"
"""Key of the JSON in the metadata of the ONNX file, as in weights files."""

THICK, THIN, DEVIATION = "thick", "thin", "deviation"
"""Names of the input and of the outputs."""

RECORDED_SHAPE = (7, 24, 32)
"""Window on which a graph of any shape is recorded; no two extents are equal, as equal ones would be tied."""

LARGEST = {"depth": 4096, "height": 8192, "width": 8192, "factor": 64, "taps": 8191}
"""Largest extents that a graph of any shape is recorded for; a limit of the recording, not of the layers."""


@dataclass(frozen=True)
class Recording:
    """What becomes part of a graph.

    Attributes:
        factor: thin slices per thick interval: of an open graph the values of inputs that are left out, else fixed.
        shape: (depth, height, width) of the windows; None for an open graph, which takes any.
        scale: factor of the standard deviation; None for a graph that gives the estimate alone.
        all_inputs: whether inputs of an open graph beside the thick slices have no value of their own.
        keeps_names: whether weights keep their names and forms; otherwise some are folded into others.
    """

    factor: int
    shape: tuple[int, int, int] | None
    scale: float | None = None
    all_inputs: bool = False
    keeps_names: bool = False


def is_open(model: ThroughPlaneModel) -> bool:
    """Whether the graph of a network serves every factor, profile, depth and plane."""
    return isinstance(model, ThinNet)


def load_packages() -> tuple[Any, Any]:
    """The packages `onnx` and `onnxruntime`.

    Raises:
        UsageError: one of them is not installed; the message holds the line that installs it.
    """
    loaded = {}
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            loaded[name] = importlib.import_module(name)
        except ImportError as error:
            raise UsageError(
                f'The export needs {name}, which is not installed or cannot be loaded: pip install ".[export]" in a '
                "clone of the repository."
            ) from error
    loaded["onnxruntime"].set_default_logger_severity(3)
    return loaded["onnx"], loaded["onnxruntime"]


def to_onnx(model: ThroughPlaneModel, recording: Recording, *, name: str) -> Any:
    """A network as an ONNX graph without metadata.

    Args:
        model: the network, on the CPU, in eval mode.
        recording: what becomes part of the graph.
        name: the model's name, for messages.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ModelError: when torch cannot record the network.
        UsageError: when the packages are not installed.
    """
    onnx, _ = load_packages()
    graph = _open_graph(model, recording, name) if recording.shape is None else _fixed_graph(model, recording, name)
    _without_origin(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def write_metadata(graph: Any, values: Mapping[str, Any], *, summary: str) -> None:
    """Store JSON values in a graph, under `METADATA_KEY`, and a sentence for viewers of graphs."""
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(values, sort_keys=True, allow_nan=False)
    graph.doc_string = summary


def _open_graph(model: ThroughPlaneModel, recording: Recording, name: str) -> Any:
    import torch

    onnx, _ = load_packages()
    assert isinstance(model, ThinNet)
    inputs = description(recording.factor)
    extents = {key: torch.export.Dim(key, min=3 if key == "taps" else 2, max=most) for key, most in LARGEST.items()}
    shapes: tuple[dict[int, Any], ...] = (
        {2: extents["depth"], 3: extents["height"], 4: extents["width"]},
        {},
        {0: extents["factor"]},
        {0: extents["taps"]},
        {},
    )
    graph = _recorded(
        ThinNetGraph(model, recording.scale).eval(),
        (torch.zeros(1, 1, *RECORDED_SHAPE), *(torch.from_numpy(value) for value in inputs)),
        [THICK, *inputs._fields],
        [THIN] if recording.scale is None else [THIN, DEVIATION],
        shapes,
        name,
        optimised=not recording.keeps_names,
    )
    for output in graph.graph.output:
        _name_extents(output, ("1", "1", "thin_depth", "height", "width"))
    if not recording.all_inputs:
        # An initializer of an input's name is its value where a caller gives none.
        graph.graph.initializer.extend(
            onnx.numpy_helper.from_array(value, field) for field, value in inputs._asdict().items()
        )
    return graph


def _fixed_graph(model: ThroughPlaneModel, recording: Recording, name: str) -> Any:
    import torch
    from torch import nn

    factor = recording.factor
    assert recording.shape is not None

    class Bound(nn.Module):
        """The network with its factor and profile."""

        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, thick: torch.Tensor) -> torch.Tensor:
            thin: torch.Tensor = self.network(thick, factor=factor, profile=SliceProfile.mean(factor))
            return thin

    return _recorded(Bound().eval(), (torch.zeros(1, 1, *recording.shape),), [THICK], [THIN], None, name)


def _recorded(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    shapes: Any,
    name: str,
    *,
    optimised: bool = True,
) -> Any:
    import torch

    try:
        with torch.no_grad(), _quietly():
            program = torch.onnx.export(
                module,
                example,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                optimize=optimised,
                verbose=False,
            )
    # Recording runs the network's own code and a chain of converters, which raise errors of many types.
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"torch cannot record {name} as an ONNX graph ({reason}); networks of the architecture thinnet can be "
            "exported."
        ) from error
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks about operators of packages that are not installed, and about sizes."""
    logger, trace, silent = logging.getLogger("torch.onnx"), logging.getLogger("torch.__trace"), logging.NullHandler()
    level = logger.level
    logger.setLevel(logging.ERROR)
    # Without a handler of its own and without the last resort, Python would print that this logger has none.
    trace.addHandler(silent)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        trace.removeHandler(silent)


def _without_origin(graph: Any) -> None:
    """Remove what the exporter notes about each operator: lines and paths of the source, and shapes in between."""
    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    for part in (graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    graph.graph.name = "thinslice"


def _name_extents(value: Any, names: tuple[str, ...]) -> None:
    """Replace formulas in the shape of an output by names; digits are sizes."""
    for extent, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
        if name.isdecimal():
            extent.dim_value = int(name)
        else:
            extent.dim_param = name
