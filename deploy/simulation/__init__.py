"""A model of a fleet that grows and shrinks with its queue. Standard library only."""
