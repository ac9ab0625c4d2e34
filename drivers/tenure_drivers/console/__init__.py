"""Pages for people: the timeline that `tenure demo` writes."""
