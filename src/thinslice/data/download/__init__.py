"""Data sets from the web: an archive's record, ranges of large files, resumed downloads, unpacking."""
