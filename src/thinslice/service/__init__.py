"""The local web service: a page and an API that upscale by the functions of `thinslice.commands`.

A server process takes uploads, keeps the queue and answers (`app.py`); worker processes do the work (`worker.py`). The
client for Python and the command line is `client.py`, which needs none of the packages of the `serve` extra.
"""
