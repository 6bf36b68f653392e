"""One module a resource; each is a list of Starlette endpoints without business rules."""
