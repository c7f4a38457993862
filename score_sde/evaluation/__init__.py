"""How good samples are: distances and tests between sets of images, in float64 on the host."""
