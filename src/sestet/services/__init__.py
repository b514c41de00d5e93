"""The use cases: one turn, one count, the list of models. They see ports and never a plug."""
