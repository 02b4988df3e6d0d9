"""The brain of the GRAPHEME seed: a small network that reads an expression graph and writes graphs up to its answer."""
