"""Kubernetes: fe beside an emulated API server, which is itself held against recorded exchanges with a real one."""
