"""The OpenAPI document, derived from the endpoints and from the models that read and write bodies.

`operation` describes one handler, as a decorator; `document` puts the descriptions together.
"""
