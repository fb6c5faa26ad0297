"""Parts of the report page: reading a run folder, words, figures, the page."""
