"""DICOM: which files hold CT, how they stack into series, their voxels in HU, and derived series to write."""
