"""`tenure show`: the conversation of a session, read-only."""
