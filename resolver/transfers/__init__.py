"""Whole zones to those who may have them."""
