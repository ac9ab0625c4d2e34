"""One table of rules for each state machine of a record, and nothing else: input, lease and run.

Records hold the states of these machines; commands move them.  A machine imports no record and no command.
"""
