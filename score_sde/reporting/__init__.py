"""A trained model made visible: what is measured, the figures, and the page that holds them."""
