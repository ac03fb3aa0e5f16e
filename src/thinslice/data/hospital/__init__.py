"""A data set of pairs from a hospital's DICOM: which studies and series match, de-identified, split by patient."""
