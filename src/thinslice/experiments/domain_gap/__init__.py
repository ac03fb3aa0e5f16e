"""What training on simulated thick slices costs on real ones."""
