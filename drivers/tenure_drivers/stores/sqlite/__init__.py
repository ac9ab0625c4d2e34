"""The store `sqlite:PATH`: several processes on one machine.  `store` and `reader` may be imported from outside."""
