"""Recordings of networks by torch (torch.jit.trace), without the memory that torch keeps of each.

Torch registers the classes of every recorded module for the life of the process: 1 to 4 MiB for one of our networks.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_recorded_here: dict[int, weakref.ref[Any]] = {}


@contextmanager
def recordings_forgotten() -> Iterator[None]:
    """Drop what torch registers of the modules that are recorded in the block; they must not be called after it.

    Torch has no public function for this; its own tests and OpenVINO's tools call the three used here. They drop the
    methods of all recorded modules, so nothing is dropped while the program holds a recorded or scripted module of
    another origin.
    """
    import torch

    jit: Any = torch.jit
    # Modules of an earlier block that wait for the collector are not those of others.
    others = any(_is_foreign(module) for module in _recorded_modules())
    try:
        yield
    finally:
        if not others:
            _recorded_here.clear()
            _recorded_here.update((id(module), weakref.ref(module)) for module in _recorded_modules())
            with contextlib.suppress(AttributeError):  # another version of torch: memory grows, results do not change
                if not jit._state._script_classes:
                    torch._C._jit_clear_class_registry()
                    jit._recursive.concrete_type_store = jit._recursive.ConcreteTypeStore()
                    jit._state._clear_class_state()


def _recorded_modules() -> list[Any]:
    from torch.jit import ScriptModule

    # The type, not isinstance, which asks proxies for their class and thereby loads what they stand for.
    return [each for each in gc.get_objects() if issubclass(type(each), ScriptModule)]


def _is_foreign(module: Any) -> bool:
    known = _recorded_here.get(id(module))
    return known is None or known() is not module
