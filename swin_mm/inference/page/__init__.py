"""A web page that shows what trained models find in pictures, and the same as JSON over HTTP.

``app.make_app(models, limits, hosts, examples)`` is the whole of it, an ASGI application for one process.
"""
