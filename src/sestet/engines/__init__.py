"""Engines: each turns a rendered prompt into tokens. One file or folder an engine; none knows another."""
