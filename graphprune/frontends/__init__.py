"""A model becomes a graph: one front end for each world."""
