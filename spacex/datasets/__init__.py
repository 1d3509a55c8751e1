"""Labelled Sentinel-2 chips, exactly as their authors publish them: AnthroProtect and MapInWild."""
