"""Writes, reads, resumes and exports run folders."""
