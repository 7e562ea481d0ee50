"""This package is the web console: the first page, live counters, health, metrics and the JSON API."""
