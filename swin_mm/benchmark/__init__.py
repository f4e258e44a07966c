"""Measures time, memory and operations of the backbone and of whole models, beside other libraries."""
