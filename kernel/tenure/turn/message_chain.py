"""The messages of a turn as a linked list of nodes, newest first, with the path digest of each.

Appending copies nothing.  Two chains are equal if their digests are equal.
"""

from __future__ import annotations

from attrs import field, frozen

from ..messages.codec import node_of
from ..messages.types import Message
from ..transcript import INPUTS_NODE, NewNode, Tip, extend_path, hash_node

__all__ = ["ChainLink", "extend", "extend_by_inputs", "messages"]


@frozen
class ChainLink:
    """A node and those before it; `digest` is its path digest.

    `messages`: its message, or those of the inputs that a checkpoint has taken.
    """

    messages: tuple[Message, ...] = field(eq=False, repr=False)
    before: ChainLink | None = field(eq=False, repr=False)
    digest: str
    length: int

    @property
    def message(self) -> Message:
        """The last message of the node."""
        return self.messages[-1]


def extend(
    chain: ChainLink | None, leaf: Tip | None, inputs: tuple[str, ...], message: Message
) -> tuple[ChainLink, NewNode]:
    """Return the chain with one more message, and the node of the message.

    The first message of a turn follows the leaf of the session, and names the inputs of the turn.
    """
    node = node_of(message)
    return _link(chain, leaf, inputs, (), node, (message,)), node


def extend_by_inputs(
    chain: ChainLink | None,
    leaf: Tip | None,
    inputs: tuple[str, ...],
    taken: tuple[str, ...],
    messages: tuple[Message, ...],
) -> ChainLink:
    """Return the chain with the node of inputs that were `taken`, which the kernel writes (TRANSCRIPT-28)."""
    return _link(chain, leaf, inputs, taken, INPUTS_NODE, messages)


def _link(
    chain: ChainLink | None,
    leaf: Tip | None,
    inputs: tuple[str, ...],
    taken: tuple[str, ...],
    node: NewNode,
    messages: tuple[Message, ...],
) -> ChainLink:
    if chain is None:
        digest = extend_path(leaf, (*inputs, *taken), hash_node(node))
        return ChainLink(messages, None, digest, 1)
    digest = extend_path(Tip("", chain.digest), taken, hash_node(node))
    return ChainLink(messages, chain, digest, chain.length + 1)


def messages(chain: ChainLink | None) -> tuple[Message, ...]:
    """Return the messages of a chain, oldest first."""
    found: list[Message] = []
    while chain is not None:
        found += reversed(chain.messages)
        chain = chain.before
    found.reverse()
    return tuple(found)
