"""From networks to scores and what scores imply: parametrizations, posterior variances, divergences."""
