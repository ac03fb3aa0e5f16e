"""Domain gap: the loss on real thick slices of networks trained on simulated ones."""
