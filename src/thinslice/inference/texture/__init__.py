"""Texture: synthetic noise that makes a thin volume as noisy as a thin reconstruction, measured on the scan itself."""
