"""What a radiologist, or a pipeline downstream, would notice: bias, lung density, edges, nodules, noise."""
