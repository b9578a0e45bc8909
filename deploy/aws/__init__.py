"""What a fleet needs in AWS, and a demo of it; needs the plugin's packages."""
