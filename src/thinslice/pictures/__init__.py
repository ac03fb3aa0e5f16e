"""Pictures of volumes, and plots of measurements."""
