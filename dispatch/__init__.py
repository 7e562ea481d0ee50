"""This package is the ways out: it turns a delivery into traffic and the answer into an outcome."""
