"""Whole processes: fe, nginx and HAProxy as users run them, under load from outside."""
