"""A plan becomes a smaller model: one back end for each world."""
