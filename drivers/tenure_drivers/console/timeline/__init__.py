"""The timeline: the events of each session of a store on one time axis, as one HTML page."""
