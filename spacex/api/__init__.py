"""The functions of `spacex.<tab>`, and the settings that they and the commands take, each declared once."""
