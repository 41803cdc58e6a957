"""Model files: read, checked, refused when they are damaged, never wholly in memory when they are large."""
