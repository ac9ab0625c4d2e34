"""Live observation of a session: text while it is written, then what was settled.  Lossy and never stored."""
