"""The relay machine: which outbound commands are executed for their targets, and when.  Spec: specs/relay.md."""
