"""Training: a pure state and step, the optimiser, the moving average, and the loop that drives them."""
