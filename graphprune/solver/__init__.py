"""From scores and a budget to widths: candidates, bounds, a search at true cost."""
