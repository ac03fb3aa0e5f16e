"""Whether the intervals of an uncertainty map hold, and the calibration that makes them hold."""
