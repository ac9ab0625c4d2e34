"""The worker machine: which due sessions to run, how many at once, and drain.  Spec: specs/worker.md."""
