"""Jobs by queue, both directions."""
