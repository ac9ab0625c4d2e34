"""`tenure inspect` and `tenure events`: what a store holds, read-only."""
