"""The kernel: who may act, what comes next, what a turn may do, what a commit contains, what recovery may conclude."""
