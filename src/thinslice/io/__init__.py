"""Files in and out: the only package with file formats. Never imports torch."""
