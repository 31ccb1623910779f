"""The restorer: a diffusion transformer, its training and its inference."""
