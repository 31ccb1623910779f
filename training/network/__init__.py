"""The diffusion transformer: its shape, its layers, and where each token stands."""
