"""Derivatives sample by sample, of gates and of weights: what gradient scores are made of."""
