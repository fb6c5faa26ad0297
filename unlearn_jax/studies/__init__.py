"""Studies: a configuration, what it resolves to, its populations, and the run that scores them."""
