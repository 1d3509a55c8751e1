"""Fixtures shared by all tests."""

from hypothesis import settings as hypothesis_settings

# wall-clock deadlines fail on a busy machine, not on a wrong program
hypothesis_settings.register_profile("spacex", deadline=None, max_examples=40)
hypothesis_settings.load_profile("spacex")
