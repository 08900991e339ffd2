"""Comparing keys, as far as Python sees it (tests)."""

from fe.proxy._head import RequestHead

def matches(head: RequestHead, digests: tuple[bytes, ...]) -> bool: ...
