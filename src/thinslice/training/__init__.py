"""Training of networks: loop, objective, optimiser, resumable state, validation, weights."""
