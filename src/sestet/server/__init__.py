"""HTTP: the ASGI application, the gate in front of it, streams, signals, metrics. The only room that knows HTTP."""
