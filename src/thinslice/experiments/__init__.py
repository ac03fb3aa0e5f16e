"""Experiments: benchmark, domain gap, clinical check, calibration."""
