"""Clients' connections: nothing of them is seen from Python but the class."""

from fe.proxy._exchange import Client

class Downstream(Client): ...
