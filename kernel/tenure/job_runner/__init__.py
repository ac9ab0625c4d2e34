"""The runner of a job: one lease, its renewal, the work under it, and how it ends.  Spec: specs/job-runner.md.

Pure: `machine.step(state, event)` returns the next state and effects.  Calls and their reports are those of the runner of
a session; the work is any code that makes requests.
"""
