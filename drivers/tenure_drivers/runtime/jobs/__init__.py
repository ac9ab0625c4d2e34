"""Jobs: work that outlives turns.  Functions, child processes and child sessions that a worker executes for a job.

May import the rest of `tenure_drivers.runtime` but `runtime.py`, which imports this.
"""
