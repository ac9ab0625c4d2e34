"""`tenure inspect` and `tenure events`: read-only views of a store, as tables or JSON."""
