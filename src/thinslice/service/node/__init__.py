"""A DICOM node: it receives CT series, upscales those that rules choose, and sends the thin series on.

`receiver.py` stores what comes in, `inbox.py` notes which studies are complete, the queue carries the work
(`jobs.py`, `worker.py`), `delivery.py` sends results, and `run.py` holds all of it together.
"""
