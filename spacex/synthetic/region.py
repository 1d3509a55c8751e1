"""The embedded region: where and when the small archive lies, and which landscape it shows."""

DEMO_BBOX = (23.80, 67.90, 24.20, 68.05)
"""West, south, east, north in degrees: some 17 km x 17 km across 24° E, where UTM zones 34 and 35 meet."""
DEMO_INTERVAL = "2020-07-01/2020-08-31"
"""The summer the archive's scenes were taken in."""
DEMO_SEED = 904
"""Landscape of archive and data set: one that shows mire, fell, lakes, fields and villages within `DEMO_BBOX`."""
