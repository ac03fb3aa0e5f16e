"""What a network does to what is read from a scan: bias, density, edges, noise, nodules."""
