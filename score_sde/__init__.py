"""Score-based generative modeling through stochastic differential equations, in JAX and Flax."""

__version__ = "0.1.0"
