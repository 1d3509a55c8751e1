"""SpacEX."""
