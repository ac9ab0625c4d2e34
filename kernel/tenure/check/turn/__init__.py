"""The explored model of a chat turn: configurations, states and properties.

It drives the turn machine over the real commands and records.  Only tests and `tenure.check` import it.
"""
