"""The runner machine: one lease, its renewal, the turns under it, and how they end.  Spec: specs/runner.md.

Pure: `machine.step(state, event)` returns the next state and effects.  It issues commands, and it imports neither the turn
machine nor the worker machine.
"""
