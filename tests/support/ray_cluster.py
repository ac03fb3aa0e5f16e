"""A Ray cluster of several nodes on this machine, on loopback: for a program of its own in a network of its own.

python ray_cluster.py WORKERS      prints the address; a line "kill" on its input kills a node, "end" ends all
"""

from __future__ import annotations

import os
import sys

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DISABLE_IMPORT_WARNING="1")

STORE_BYTES = 80 << 20
"""Memory of each node's object store, which holds keys alone."""


def main(workers: int) -> None:
    """Serve a cluster of a head without CPUs and of nodes with one each."""
    from ray.cluster_utils import Cluster

    common = {"object_store_memory": STORE_BYTES, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **common})
    nodes = [cluster.add_node(num_cpus=1, wait=False, **common) for _ in range(workers)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("killed", flush=True)
        else:
            break
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
