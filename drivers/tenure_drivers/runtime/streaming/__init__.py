"""Streaming of a session: text while a model writes it, then the runs that have ended.  Lossy and never stored."""
