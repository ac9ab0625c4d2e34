"""Agents: a chat with tools, a few that need no model, and the registry that finds one by name.

They use the runtime and the models; the runtime knows none of them.
"""
