"""A whole archive: an index of its headers, a plan by rules, and many workers on one queue.

    scan    headers of all files into a catalogue of patients, studies and series (`scan.py`, `catalogue.py`)
    plan    series chosen by rules become jobs of a queue, with an estimate (`plan.py`)
    run     a pool of processes does the jobs (`run.py`, `worker.py`), or a cluster (`cluster/`); more workers may join

What becomes of one series is in `series_work.py`; archives and outputs in stores of objects are in `storage/`.

Everything lies in one folder, the index (`place.py`). It holds no names of patients; see `catalogue.py`.
"""
