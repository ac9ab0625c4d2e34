"""Read-only questions to a store, each answered from one snapshot.

`core` serves holders and clients, `inspect` and `history` serve operators.
"""
