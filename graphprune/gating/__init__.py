"""Noise gates, trained with a model: VIBNet's and SBP's, one gate a group. The modules in here import torch."""
