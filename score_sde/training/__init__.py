"""Training: a pure state and step, the optimiser, averages of the parameters, their snapshots."""
