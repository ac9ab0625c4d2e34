"""The explored model of a chat turn: settings, states and properties."""
