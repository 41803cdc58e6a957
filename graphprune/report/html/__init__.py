"""The report as one HTML file that needs nothing else: markup that escapes, figures, sections, a page."""
