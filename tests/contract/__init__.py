"""The contract as clients see it: official SDKs and raw HTTP against real servers."""
