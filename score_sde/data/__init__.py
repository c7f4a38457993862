"""Image sources, the position-indexed stream over them, and augmentation by key."""
