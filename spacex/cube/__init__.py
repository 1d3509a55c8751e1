"""The Zarr store: layout, writing, extending, verifying, reading, pictures, GeoTIFF export and STAC item."""
