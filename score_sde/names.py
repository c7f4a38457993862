"""Names that data, networks and systems have in common for what stands in a condition."""

TOKENS, EMBEDDINGS, MASK = "tokens", "embeddings", "mask"
"""Words int32 [B, L], or rows [B, L, E] of another encoder; which of them are there, bool [B, L]."""
GIVEN = "given"
"""Tokens int32 [B, L] of samples that are given and stay, with masks in all other places."""
