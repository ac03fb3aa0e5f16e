"""How many workers a cluster has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """Workers of each kind.

    Attributes:
        cpu: workers that run networks on CPUs.
        gpu: workers with a GPU each.
    """

    cpu: int
    gpu: int


def room_of(nodes: Iterable[Mapping[str, float]], *, device: str, threads: int, most: int | None = None) -> Room:
    """Room on the nodes of a cluster: a worker for each GPU, and one for every `threads` CPUs that are left.

    Args:
        nodes: resources of each node by Ray's names, "CPU" and "GPU".
        device: of the plan: "auto" takes both kinds, "cpu" and "cuda" one of them.
        threads: CPUs of a worker.
        most: workers in all; None for as many as there is room for.

    >>> nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}, {"memory": 1e9}]
    >>> room_of(nodes, device="auto", threads=2)
    Room(cpu=4, gpu=2)
    >>> room_of(nodes, device="cpu", threads=3), room_of(nodes, device="cuda:0", threads=2)
    (Room(cpu=3, gpu=0), Room(cpu=0, gpu=2))
    >>> room_of(nodes, device="auto", threads=1, most=3)
    Room(cpu=1, gpu=2)
    """
    cpu = gpu = 0
    for node in nodes:
        cpus, gpus = int(node.get("CPU", 0)), int(node.get("GPU", 0))
        here = 0 if device == "cpu" else min(gpus, cpus // threads)
        gpu += here
        cpu += 0 if device.startswith("cuda") else (cpus - here * threads) // threads
    if most is not None:
        gpu = min(gpu, most)
        cpu = min(cpu, most - gpu)
    return Room(cpu, gpu)
