"""Other people's servers: which may be dialled, and how."""
