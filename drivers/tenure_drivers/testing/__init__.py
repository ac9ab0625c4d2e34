"""Test kits for stores and agents: the conformance suite, and a random program that compares a store with a model."""
