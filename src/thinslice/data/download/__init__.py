"""Download of data sets: records of an archive, resumable downloads of byte ranges, unpacking."""
