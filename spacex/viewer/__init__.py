"""A web map of any cube: a static page that reads the bare store, and the command that serves both."""
