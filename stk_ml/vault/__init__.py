"""Secrets by reference."""
