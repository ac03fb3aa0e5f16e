"""Data sets of pairs from a hospital's DICOM: matching series, de-identified, split by patient."""
