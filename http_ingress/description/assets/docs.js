// Shows openapi.json by Swagger UI, from this server alone. Patterns are left out: the descriptions say the same in words.
"use strict";

// What the browser refuses is told on the page, so that a test, and whoever looks, sees it.
document.addEventListener("securitypolicyviolation", (event) => {
  document.body.dataset.refused = `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile || ""}`;
});

function withoutPatterns(node) {
  if (Array.isArray(node)) return node.map(withoutPatterns);
  if (node === null || typeof node !== "object") return node;
  return Object.fromEntries(Object.entries(node)
    .filter(([name, value]) => !(name === "pattern" && typeof value === "string"))
    .map(([name, value]) => [name, withoutPatterns(value)]));
}

async function show() {
  try {
    const spec = withoutPatterns(await (await fetch("openapi.json")).json());
    SwaggerUIBundle({
      spec,
      dom_id: "#main",
      deepLinking: true,
      docExpansion: "list",
      defaultModelsExpandDepth: 0,
      displayRequestDuration: true,
      requestSnippetsEnabled: true,
      validatorUrl: null, // it would be asked on the internet
      onComplete: () => { document.body.dataset.shown = "yes"; },
    });
  } catch (error) {
    document.getElementById("main").textContent = `openapi.json could not be shown: ${error}`;
  }
}

document.addEventListener("DOMContentLoaded", show);
