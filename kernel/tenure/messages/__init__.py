"""What turns and models exchange: message types, and their form as node bodies and JSON.

Pure values.  The turn machine, the chat policy and the model clients use them.
"""

from .codec import InvalidMessage, decode, encode, from_json, to_json
from .types import (
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
    "to_json",
]
