"""The timeline: what happened in each session of a store, as one HTML page."""
