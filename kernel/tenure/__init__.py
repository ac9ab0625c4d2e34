"""tenure: a pure kernel for durable agent sessions.

It decides who may act, what comes next, what a turn may do, what a commit contains and what recovery may conclude, as
pure functions over immutable values.  `command.reads()` says what a decision needs, `command.decide(view, now_ms)`
answers with `Decided(outcome, writes, hints)` or `Refused(reason, clause, detail)`.  Nothing in here does IO.
"""
