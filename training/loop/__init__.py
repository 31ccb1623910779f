"""The training loop: recipe, objective, optimizers, states, and what a run says of itself."""
