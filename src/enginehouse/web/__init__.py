"""The dashboard: static files, served as they are.

Owns pages, styles and scripts without a build step. May not live here: Python code besides this file.
"""
