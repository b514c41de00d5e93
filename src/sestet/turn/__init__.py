"""One turn, as pure functions: check it, render it, cut it at stop sequences, put it in order, fold it. No I/O."""
