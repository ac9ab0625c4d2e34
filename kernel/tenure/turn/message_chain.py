"""The messages of a turn as a linked list, newest first, with the path digest of each.

Appending copies nothing.  Two chains are equal if their digests are equal.
"""

from __future__ import annotations

from attrs import field, frozen

from ..messages.codec import node_of
from ..messages.types import Message
from ..transcript import NewNode, Tip, extend_path, hash_node

__all__ = ["ChainLink", "extend", "messages"]


@frozen
class ChainLink:
    """A message and those before it; `digest` is the path digest of its node."""

    message: Message = field(eq=False, repr=False)
    before: ChainLink | None = field(eq=False, repr=False)
    digest: str
    length: int


def extend(
    chain: ChainLink | None, leaf: Tip | None, inputs: tuple[str, ...], message: Message
) -> tuple[ChainLink, NewNode]:
    """Return the chain with one more message, and the node of the message.

    The first message of a turn follows the leaf of the session, and names the inputs of the turn.
    """
    node = node_of(message)
    content = hash_node(node)
    if chain is None:
        return ChainLink(message, None, extend_path(leaf, inputs, content), 1), node
    digest = extend_path(Tip("", chain.digest), (), content)
    return ChainLink(message, chain, digest, chain.length + 1), node


def messages(chain: ChainLink | None) -> tuple[Message, ...]:
    """Return the messages of a chain, oldest first."""
    found: list[Message] = []
    while chain is not None:
        found.append(chain.message)
        chain = chain.before
    found.reverse()
    return tuple(found)
