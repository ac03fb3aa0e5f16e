"""Cost of a network: parameters, bytes of weights, floating-point operations of a pass.

Operations are those of matrix products and convolutions, a multiplication and an addition counted as two. Elementwise
operations (normalisation, activation, softmax, interpolation by index) are not counted, as in published counts.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks import onednn
from thinslice.profile import SliceProfile


def parameters(model: nn.Module) -> int:
    """Number of trained values; a value that several layers share counts once.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and of the buffers that belong to the weights file.

    >>> weight_bytes(nn.Linear(3, 2))
    32
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def operations(
    model: ThroughPlaneModel,
    shape: tuple[int, int, int],
    factor: int | None = None,
    *,
    profile: SliceProfile | None = None,
) -> int:
    """Floating-point operations of one forward pass on one window.

    They are counted on torch's "meta" device, which follows shapes and computes nothing; a network that cannot run
    there is run once on the CPU.

    Args:
        model: any network of the contract; it is not changed.
        shape: thick voxels of the window along (depth, height, width).
        factor: thin slices per thick interval; None for the model's own.
        profile: how thick slices weigh thin ones; None for contiguous slices.

    Raises:
        ShapeError: for a depth or factor that the network does not support; the message lists those that it does.
    """
    # On a copy, as networks may keep tensors that are neither parameters nor buffers.
    twin = copy.deepcopy(model).eval()
    try:
        return operations_of_pass(twin.to("meta"), torch.zeros((1, 1, *shape), device="meta"), factor, profile)
    except (NotImplementedError, RuntimeError, TypeError):
        twin = copy.deepcopy(model).to("cpu").eval()
        return operations_of_pass(twin, torch.zeros((1, 1, *shape)), factor, profile)


def operations_of_pass(model: nn.Module, x: torch.Tensor, factor: int | None, profile: SliceProfile | None) -> int:
    """Floating-point operations of one forward pass on `x`: (1, 1, D, H, W), on the device of the model."""
    mapping: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten.baddbmm_: _added_product,
    }
    if (fast := onednn.operators()) is not None:
        mapping |= {fast.linear: _linear, fast.convolution: _convolution}
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        model(x, factor=factor, profile=profile)
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    """Operations of the CPU's fused attention, missing in torch's table: scores, then their product with the values.

    All arguments are shapes: query (..., queries, features), key (..., keys, features), value (..., keys, values).
    """
    groups = math.prod(query[:-2])
    queries, features = query[-2:]
    keys, values = value[-2:]
    return int(2 * groups * queries * keys * (features + values))


def _added_product(x: Any, first: Any, second: Any, *, out_shape: Any = None, **named: Any) -> int:
    """Operations of a product added in place, missing in torch's table: first (batch, rows, inner)."""
    return int(2 * math.prod(first) * second[-1])


def _convolution(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    """Operations of oneDNN's convolution (`models.blocks.onednn`): weight (outputs, inputs, *kernel)."""
    return int(2 * math.prod(out_shape) * math.prod(weight[1:]))


def _linear(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    """Operations of oneDNN's linear layer (`models.blocks.onednn`): x (..., inputs), weight (outputs, inputs)."""
    return int(2 * math.prod(x) * weight[0])
