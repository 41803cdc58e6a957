"""Noise gates trained with a model: VIBNet's and SBP's, one gate a group. The modules here import torch, this does not."""
