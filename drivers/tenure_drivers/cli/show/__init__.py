"""`tenure show`: the conversation of a session as text, Markdown or JSON.  Read-only."""
