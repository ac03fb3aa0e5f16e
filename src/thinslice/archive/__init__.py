"""A whole archive: an index of its headers, a plan by rules, and many workers on one queue.

    scan    headers of all files into a catalogue of patients, studies and series (`scan.py`, `catalogue.py`)
    plan    series chosen by rules become jobs of a queue, with an estimate (`plan.py`)
    run     a pool of processes does the jobs (`run.py`, `worker.py`); more workers may join

Everything lies in one folder, the index (`place.py`). It holds no names of patients; see `catalogue.py`.
"""
