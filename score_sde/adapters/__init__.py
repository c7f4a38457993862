"""Other people's files: one module per kind, each of which makes the same neutral value of it (foreign.py)."""
