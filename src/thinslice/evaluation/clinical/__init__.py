"""Measures of what is read from a scan: bias by tissue, lung density, edges, nodules, noise."""
