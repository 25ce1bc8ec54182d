"""The only SQL of the product: one module for each noun, and the migrations.

Functions take a connection, so that the caller decides what one transaction spans. Those that act on behalf of a
tenant take its organization as a required argument.
"""
