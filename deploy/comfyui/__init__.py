"""Installs, starts, shows and tests the plugin; needs only Python's standard library."""
