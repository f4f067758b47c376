"""An upload page with a gallery that shows where each file is."""
