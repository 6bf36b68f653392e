"""The OpenAPI document: made from the schemas that check requests and write answers.

`document` puts it together, of the tables of the dialects.
"""

from stenobird.web.openapi.table import Answer, Dialect, Operation, parameter

__all__ = ["Answer", "Dialect", "Operation", "parameter"]
