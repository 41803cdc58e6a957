"""A plan becomes the user's own torch module, smaller."""
