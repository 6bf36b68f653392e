"""The OpenAPI document: made from the schemas that check requests and write answers.

`document` puts it together, of the operations of the dialects.
"""
