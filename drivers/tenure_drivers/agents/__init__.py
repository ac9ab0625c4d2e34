"""Agents: a chat with tools, some agents without a model, and the registry that finds an agent by name.

Agents import the runtime and the models.  The runtime imports no agent.
"""
