"""The doctor of a worker, as install.sh starts it."""
