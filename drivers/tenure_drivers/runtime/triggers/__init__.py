"""Triggers: their schedules, how a client makes and changes them, and how a worker fires them.  Spec: specs/trigger.md.

May be imported by the runtime and its client, and by the command line.
"""
