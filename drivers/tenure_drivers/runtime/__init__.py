"""The asyncio runtime: clients, receipts, and the hosts that carry out the effects of runners and workers.

It imports stores, never agents or the command line.
"""
