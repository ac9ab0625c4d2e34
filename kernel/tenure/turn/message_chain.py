"""The messages of a turn, each behind the one before, with the digest of the path so far.

Going on costs what is new: nothing is copied, and two chains are equal if their digests are.
"""

from __future__ import annotations

from attrs import field, frozen

from ..messages.codec import node_of
from ..messages.types import Message
from ..transcript import NewNode, Tip, extend_path, hash_node


@frozen
class ChainLink:
    """`digest` is the path digest of the node that holds the message."""

    message: Message = field(eq=False, repr=False)
    before: ChainLink | None = field(eq=False, repr=False)
    digest: str
    length: int


def extend(
    chain: ChainLink | None, leaf: Tip | None, inputs: tuple[str, ...], message: Message
) -> tuple[ChainLink, NewNode]:
    """The chain with a message more, and its node; the first one stands behind the leaf and the inputs."""
    node = node_of(message)
    return link(chain, leaf, inputs, message, node), node


def link(
    chain: ChainLink | None,
    leaf: Tip | None,
    inputs: tuple[str, ...],
    message: Message,
    node: NewNode,
) -> ChainLink:
    content = hash_node(node)
    if chain is None:
        return ChainLink(message, None, extend_path(leaf, inputs, content), 1)
    parent = Tip("", chain.digest)
    return ChainLink(message, chain, extend_path(parent, (), content), chain.length + 1)


def messages(chain: ChainLink | None) -> tuple[Message, ...]:
    found: list[Message] = []
    while chain is not None:
        found.append(chain.message)
        chain = chain.before
    found.reverse()
    return tuple(found)
