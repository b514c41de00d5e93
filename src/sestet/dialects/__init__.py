"""Wire protocols: bytes to requests, events to bytes. No logic of the turn."""
