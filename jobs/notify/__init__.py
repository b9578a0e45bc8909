"""Who is told how jobs go. Stored before it is told."""
