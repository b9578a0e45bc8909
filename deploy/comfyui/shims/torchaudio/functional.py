"""Importable and empty: see the package."""
