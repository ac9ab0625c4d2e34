"""The commands of triggers.  Each works on one trigger, whose id is its `session_id`.  Spec: specs/trigger.md."""
