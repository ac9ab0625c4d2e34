"""Stores: they load records, let the kernel decide, and commit its writes.  Spec: specs/store.md.

`base` is the contract, `registry` opens a store by its URL.  A store imports no other store and nothing above it.
"""
