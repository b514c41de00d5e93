"""Money, pure: the prices in force for a request, and what its tokens cost."""
