"""Messages between turns and models: types, and their encoding as node bodies and JSON.

These are pure values.  The turn machine, the chat policy and the model clients use them.
"""

from .codec import InvalidMessage, decode, encode, from_json, to_json
from .sendable import sendable
from .types import (
    Approval,
    Attachment,
    Delta,
    Disposition,
    Finish,
    Message,
    ModelFailed,
    Reply,
    Request,
    RetryPolicy,
    Tool,
    ToolCall,
)

__all__ = [
    "Approval",
    "Attachment",
    "Delta",
    "Disposition",
    "Finish",
    "InvalidMessage",
    "Message",
    "ModelFailed",
    "Reply",
    "Request",
    "RetryPolicy",
    "Tool",
    "ToolCall",
    "decode",
    "encode",
    "from_json",
    "sendable",
    "to_json",
]
