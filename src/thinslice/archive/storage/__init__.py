"""Archives and outputs in stores of objects (S3), beside those in folders.

    store        lists, beginnings of objects, whole objects, objects that are made once (`store.py`)
    read_prefix  a scan of objects by their beginnings (`read_prefix.py`)
    scratch      objects of a series as files, bounded (`scratch.py`)
    results      a result appears once, by a manifest (`results.py`)

Catalogue, plan and queue stay on a local disk.
"""
