// Starts the vendored Swagger UI. It loads nothing from other sites: no validator, no fonts.
window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#api-reference",
    deepLinking: true,
    validatorUrl: null,
    docExpansion: "list",
    persistAuthorization: false,
  });
});
