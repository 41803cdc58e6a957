"""A plan becomes a smaller captured graph of ATen operators."""
