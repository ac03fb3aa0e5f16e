"""The operating system: files written whole or not at all, memory and disk, cores, allocator, cache."""
