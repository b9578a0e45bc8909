"""What brings the plugin onto a machine."""
