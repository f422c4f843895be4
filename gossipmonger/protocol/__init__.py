"""All participants: one message in, replies and events out; no socket, thread, clock or randomness of its own."""

from gossipmonger.protocol.config import Config
from gossipmonger.protocol.output import Dial, Event, Output, Send
from gossipmonger.protocol.protocol import Protocol
from gossipmonger.protocol.seeds import Place

__all__ = ["Config", "Dial", "Event", "Output", "Place", "Protocol", "Send"]
