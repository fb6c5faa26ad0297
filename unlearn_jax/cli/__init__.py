"""Commands: options, progress, one module per command."""
