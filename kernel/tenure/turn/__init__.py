"""The turn machine of a chat agent: a model loop with tools, replayed from its journal.  Spec: specs/turn.md.

Pure: `step(state, event)` returns the next state and effects.  It imports records and commands, never the runner.
"""
