"""Tests of fe, by area. Shared tools are in `tests.support`; nothing here mocks a part of fe."""
