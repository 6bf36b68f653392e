// Starts the vendored API reference. Nothing is asked of any other site: no validator, no fonts.
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
