"""What methods are made of: entries, recipes, folds in parts, attacks, lengths."""
