"""Names that data, networks and systems have in common for what is in a condition."""

TOKENS, EMBEDDINGS, MASK = "tokens", "embeddings", "mask"
"""Words int32 [B, L], or rows [B, L, E] of another encoder; which of them are there, bool [B, L]."""

FIELD, IMAGE = "field", "image"
"""A field [B, H, W, C] that the data have beside every example, in its own units; and as a network is shown it."""

PRESENT = "present"
"""Which elements of an example are there, bool [B, ...], where data may miss some."""
