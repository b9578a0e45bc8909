"""What a picture is, and how one becomes another."""
