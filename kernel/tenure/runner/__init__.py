"""The runner machine: one lease, its renewal, the turns under it and how they end.  Spec: specs/runner.md.

Pure: `step(state, event)` returns the next state and effects.  It issues commands and never imports the turn machine.
"""
