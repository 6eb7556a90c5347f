"""Sockets that questions come in by: UDP, TCP, TLS and HTTPS."""
