"""The store `sqlite:FILE`: several processes on one machine."""
