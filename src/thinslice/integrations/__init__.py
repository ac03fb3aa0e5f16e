"""Classes that other packages call: a transform for TorchIO, an inferer for MONAI. Each module needs its package."""
