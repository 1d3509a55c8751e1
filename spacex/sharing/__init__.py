"""What a finished cube becomes for others: files for GIS, and a STAC item that says what it is."""
