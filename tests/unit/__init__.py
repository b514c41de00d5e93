"""Unit tests: one folder for each layer of src/sestet, one file for each module, no process and no network."""
