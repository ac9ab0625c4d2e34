"""Scenarios: commands and values as text, and the player that runs them.  Spec: specs/README.md."""
