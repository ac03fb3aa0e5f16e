"""An archive's plan on a Ray cluster: the driver holds the queue and hands out keys, actors upscale.

    slots    how many workers a cluster has room for, on CPUs and GPUs (`slots.py`)
    actor    what runs on a node: reads the next series while the network is at work on this one (`actor.py`)
    driver   claims jobs, renews their leases, notes outcomes (`driver.py`)

SQLite works on one machine alone, so workers on others never see the queue: the driver claims for them. Ray only starts
processes and carries names and numbers there and back; voxels go from the files of the archive to those of the outputs.
"""
