"""Clinical check of networks: bias, lung density, edges, noise, nodules."""
