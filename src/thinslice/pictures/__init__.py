"""Pictures of volumes, and plots of what was measured."""
