"""What influence is left when a sample is deleted and similar samples stay."""
