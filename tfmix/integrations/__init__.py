"""Faces of tfmix for other libraries."""
