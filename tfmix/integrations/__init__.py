"""Offers tfmix through the interfaces of other libraries."""
