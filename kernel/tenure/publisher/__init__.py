"""The publisher machine: which sessions have their events given to a sink, and when.  Spec: specs/publisher.md."""
