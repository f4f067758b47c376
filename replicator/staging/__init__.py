"""Copying a live site's media to a staging site."""
