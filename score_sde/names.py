"""Names that data, networks and systems have in common for what a text is in a condition."""

TOKENS, EMBEDDINGS, MASK = "tokens", "embeddings", "mask"
"""Words int32 [B, L], or rows [B, L, E] of another encoder; which of them are there, bool [B, L]."""
FRAMES = "frames"
"""What a waveform is conditioned on, [B, T', M]: M numbers for every hop of samples, such as mel bands."""
