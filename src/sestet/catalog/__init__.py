"""What clients see of models (cards) and what families of weights can do (profiles), as data."""
