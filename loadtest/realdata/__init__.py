"""Published data sets imported as they are and decided over; `__main__.py` says what is compared with what."""
