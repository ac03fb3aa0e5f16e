"""One durable queue of jobs in an SQLite file: the web service's jobs, a node's outbox and an archive's plan use it.

`Queue` (`store.py`, on the file of `database.py`) keeps the jobs, `Lease` (`lease.py`) holds one while it is worked on,
and `work` (`work.py`) is the loop of a worker. What a job does is its user's: a job carries JSON values in and JSON
values out.
"""

from thinslice.queue.job import Job, NewJob, RetryPolicy, State, job_key
from thinslice.queue.lease import JobCancelledError, Lease, LeaseLostError
from thinslice.queue.store import Queue
from thinslice.queue.work import Handler, attempt, work

__all__ = [
    "Handler",
    "Job",
    "JobCancelledError",
    "Lease",
    "LeaseLostError",
    "NewJob",
    "Queue",
    "RetryPolicy",
    "State",
    "attempt",
    "job_key",
    "work",
]
