"""Whether the pruned model computes what the masked original does, and how far two models are apart."""
