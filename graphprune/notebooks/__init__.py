"""What notebooks show of groups, plans, reports, curves and comparisons: compact, escaped, self-contained HTML."""
