"""The prompt cache as rules: which prefixes of a prompt are kept, and what a request reads and writes of them."""
