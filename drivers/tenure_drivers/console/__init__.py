"""HTML pages: the timeline that `tenure demo` writes."""
