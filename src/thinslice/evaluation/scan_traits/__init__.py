"""Traits of a thick scan that need no thin one: whether it is like the scans that the networks were trained on."""
