"""A torch module becomes a graph."""
