"""The limits that more than one module must agree on, each declared once.  Spec: the page of the clause named with it."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ADMITTED_MAX",
    "AMENDED_MAX",
    "ATTACHED_MAX",
    "ATTACHMENTS_MAX",
    "BEGIN_ABANDONED_MAX",
    "BEGIN_PROMOTED_MAX",
    "BODY_BYTES_MAX",
    "CHECKPOINT_ENTRIES_MAX",
    "CHECKPOINT_NODES_MAX",
    "CHECKPOINT_ROWS_MAX",
    "COMMANDS_FOR_MS_MIN",
    "COMMAND_BYTES_MAX",
    "COMMIT_ATTACHED_MAX",
    "COMMIT_NODES_MAX",
    "FIRED_TIMES_MAX",
    "EMISSION_BYTES_MAX",
    "EVENT_TYPES_MAX",
    "FRAMES_MAX",
    "FRAME_OPTIONS_BYTES_MAX",
    "GRANTS_MAX",
    "ID_CHARACTERS_MAX",
    "INTENTS_MAX",
    "INTENT_AGE_MS",
    "JOB_INPUT_BYTES_MAX",
    "LABELS_MAX",
    "LABEL_CHARACTERS_MAX",
    "MESSAGE_BYTES_MAX",
    "OCCURRENCE_BYTES_MAX",
    "OPEN_TICKETS_MAX",
    "OUTBOUND_MAX",
    "ORIGIN_BYTES_MAX",
    "PAGES_MAX",
    "PAGE_BYTES_MAX",
    "PAGE_NODES_MAX",
    "PAYLOAD_BYTES_MAX",
    "PRIORITY_MAX",
    "PRUNE_NAMES_MAX",
    "PRUNE_ROWS_MAX",
    "REPEATED_MS_MAX",
    "PROFILE_BYTES_MAX",
    "RESEALED_ROWS_MAX",
    "RESTORED_CHARACTERS_MAX",
    "RESTORED_ROWS_MAX",
    "RUN_BYTES_DEFAULT",
    "RUN_BYTES_MAX",
    "RUN_INPUTS_DEFAULT",
    "RUN_INPUTS_MAX",
    "SCRAP_CLAIM_MS",
    "SCHEMA_BYTES_MAX",
    "SIGNAL_NAMES_MAX",
    "STATES_MAX",
    "SUBSCRIPTIONS_MAX",
    "SWEEP_ABANDONED_MAX",
    "SWEEP_INTENTS_MAX",
    "SWEEP_PROMOTED_MAX",
    "SWEEP_ROWS_MAX",
    "SWEEP_TICKETS_MAX",
    "TICKET_BYTES_MAX",
    "TIME_MS_MAX",
    "UNFINISHED_RUNS_MAX",
    "USAGE_COUNT_MAX",
    "USAGE_MAX",
    "WITHDRAW_ROWS_MAX",
]


# ids, times and texts (INBOX-4)
ID_CHARACTERS_MAX: Final = 200
TIME_MS_MAX: Final = 2**53
PRIORITY_MAX: Final = 1_000_000
PAYLOAD_BYTES_MAX: Final = 10_000_000  # of an input
ORIGIN_BYTES_MAX: Final = 16_384  # of the origin of an input (INBOX-61)
BODY_BYTES_MAX: Final = 10_000_000  # of a node, a journal entry, a state
COMMAND_BYTES_MAX: Final = 1_000_000_000  # of all texts of a command (STORE-43)
MESSAGE_BYTES_MAX: Final = 9_500_000  # of a message as the body of a node, below BODY_BYTES_MAX

# of an import (IMPORT-5)
PAGE_NODES_MAX: Final = 64
PAGE_BYTES_MAX: Final = 4_000_000  # of the bodies of a page that has several nodes
PAGES_MAX: Final = 1_000_000

# of a profile (PROFILE-3)
LABELS_MAX: Final = 16
LABEL_CHARACTERS_MAX: Final = 200  # of the value of a label, of a name, of a cause
PROFILE_BYTES_MAX: Final = 16_384  # of its data

# of attachments (ATTACH-3, ATTACH-11)
ATTACHMENTS_MAX: Final = 64  # of one Intend, Forget, ClaimScraps or DropScraps
ATTACHED_MAX: Final = 32  # of one Checkpoint or Amend
COMMIT_ATTACHED_MAX: Final = 8
AMENDED_MAX: Final = 128  # nodes and attachments of one Amend, so that it writes at most 200 rows beside what it sends (ATTACH-14)
INTENTS_MAX: Final = 256  # of a session
INTENT_AGE_MS: Final = 86_400_000  # after which an intent without a run is aged
SCRAP_CLAIM_MS: Final = 300_000  # how long nobody else deletes the bytes

# of a job (JOB-33)
JOB_INPUT_BYTES_MAX: Final = 10_000_000
GRANTS_MAX: Final = 64  # of one command (GRANT-2)
EVENT_TYPES_MAX: Final = 32  # EMIT-2
SCHEMA_BYTES_MAX: Final = 65_536  # of one event type
SIGNAL_NAMES_MAX: Final = 32  # SIGNAL-5
EMISSION_BYTES_MAX: Final = 1_000_000  # of an emission, and of a signal

# of a trigger
OCCURRENCE_BYTES_MAX: Final = (
    65_536  # of the body of an occurrence, and of the text of a subscription
)
SUBSCRIPTIONS_MAX: Final = 32  # that are not deleted (TRIGGER-22)
FIRED_TIMES_MAX: Final = 32  # that one Fire brings (TRIGGER-44)

# rows of one command (STORE-4)
ADMITTED_MAX: Final = 256  # inputs of one Admit (INBOX-8)
RUN_INPUTS_MAX: Final = 64  # inputs bound to one run (INBOX-16)
RUN_BYTES_DEFAULT: Final = 1_000_000  # of the payloads bound to one run
RUN_BYTES_MAX: Final = 1_000_000  # of the payloads of a run that takes inputs (JOURNAL-35)
RUN_INPUTS_DEFAULT: Final = 8
UNFINISHED_RUNS_MAX: Final = 32  # of a session; with this many no new run begins
CHECKPOINT_ENTRIES_MAX: Final = 64
CHECKPOINT_NODES_MAX: Final = 64  # of a Checkpoint or an Amend; also the tool calls of one node
CHECKPOINT_ROWS_MAX: Final = 256  # of a checkpoint that takes inputs (JOURNAL-35)
COMMIT_NODES_MAX: Final = 32  # COMMIT-8
STATES_MAX: Final = 8  # of a frame, and of one command (STATE-3)
FRAMES_MAX: Final = 256  # of a session (FRAME-6)
FRAME_OPTIONS_BYTES_MAX: Final = 16_384  # FRAME-7
USAGE_MAX: Final = 8  # usage records of one command
USAGE_COUNT_MAX: Final = 10**12  # of each count of one command; a store adds them up in 63 bits
OPEN_TICKETS_MAX: Final = 32  # of a run (TICKET-5)
OUTBOUND_MAX: Final = 8  # commands that one command sends (OUTBOUND-3)
TICKET_BYTES_MAX: Final = 1_000_000  # of a question, and of a decision
SWEEP_TICKETS_MAX: Final = 32  # tickets that a Sweep times out; as many of ended runs (TICKET-30)
BEGIN_PROMOTED_MAX: Final = 8  # inputs that a Begin or a Commit makes ready
BEGIN_ABANDONED_MAX: Final = 8  # heads that a Begin ends (INBOX-55)
SWEEP_INTENTS_MAX: Final = 64  # aged intents that a Sweep drops (ATTACH-30)
SWEEP_ABANDONED_MAX: Final = 96  # heads that a Sweep ends (SWEEP-27)
SWEEP_PROMOTED_MAX: Final = 192
SWEEP_ROWS_MAX: Final = 240  # rows of one Sweep besides the session's and the events' (SWEEP-6)
WITHDRAW_ROWS_MAX: Final = 240  # rows of one WithdrawFrom, likewise (INBOX-27)
RESEALED_ROWS_MAX: Final = 256  # of one Reseal (STATE-24)
RESTORED_ROWS_MAX: Final = 128  # of one Restore
RESTORED_CHARACTERS_MAX: Final = 8_000_000  # after which `restoring` begins another Restore

# retention (RETENTION-2, RETENTION-3)
REPEATED_MS_MAX: Final = (
    86_400_000  # no driver repeats a command for longer, and no lease is longer (LEASE-21)
)
COMMANDS_FOR_MS_MIN: Final = 2 * REPEATED_MS_MAX
PRUNE_ROWS_MAX: Final = 240  # rows of one Prune besides the session's and its progress
PRUNE_NAMES_MAX: Final = 256  # inputs or tickets, and as many runs, of one Prune
