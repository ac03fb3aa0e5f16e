"""A network of one's own beside the published ones."""
