"""The training loop: calls of the compiled step, and what is due between them."""
