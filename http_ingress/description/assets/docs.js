// Renders openapi.json: operations, parameters, schemas, and a form to try each. No library, no other origin; every text is
// set as text, never as markup, so that nothing in the document can become a script.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const MAX_SCHEMA_DEPTH = 8;

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

// The descriptions use backquotes for code; nothing else of Markdown.
function prose(text) {
  return (text || "").split("\n").filter(Boolean).map((line) =>
    el("p", {}, line.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part))));
}

function resolve(api, schema) {
  let found = schema;
  for (let hops = 0; found && found.$ref && hops < MAX_SCHEMA_DEPTH; hops += 1) {
    found = found.$ref.replace(/^#\//, "").split("/").reduce((at, key) => at[key], api);
  }
  return found || {};
}

function typeName(api, schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((each) => typeName(api, each)).join(" | ");
  if (schema.enum) return schema.enum.length > 12 ? `${schema.type || "enum"} (${schema.enum.length} values)` : schema.enum.join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `${typeName(api, schema.items || {})}[]`;
  return schema.format ? `${schema.type} (${schema.format})` : schema.type || "any";
}

function limits(schema) {
  const words = { minimum: "≥", maximum: "≤", minLength: "min. length", maxLength: "max. length", pattern: "matches" };
  const found = Object.entries(words).filter(([key]) => schema[key] !== undefined).map(([key, word]) => `${word} ${schema[key]}`);
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function fields(api, schema) {
  const model = resolve(api, schema);
  const required = new Set(model.required || []);
  const rows = Object.entries(model.properties || {}).map(([name, each]) =>
    el("tr", {}, el("td", {}, el("code", {}, name), required.has(name) ? " *" : ""),
      el("td", {}, typeName(api, each)), el("td", {}, prose(each.description), limits(each))));
  return rows.length ? el("table", {}, el("thead", {}, el("tr", {}, ["field", "type", "meaning"].map((word) => el("th", {}, word)))), el("tbody", {}, rows)) : null;
}

function parameters(api, operation) {
  const rows = (operation.parameters || []).map((each) =>
    el("tr", {}, el("td", {}, el("code", {}, each.name), each.required ? " *" : ""), el("td", {}, each.in),
      el("td", {}, prose(each.description), limits(each.schema || {}))));
  return rows.length ? el("table", {}, el("tbody", {}, rows)) : null;
}

function responses(api, operation) {
  return Object.entries(operation.responses).map(([status, each]) => {
    const [media, content] = Object.entries(each.content || {})[0] || ["", {}];
    return el("details", {},
      el("summary", {}, el("span", { class: `status ${status < 400 ? "good" : "bad"}` }, status), ` ${content.schema ? typeName(api, content.schema) : ""} `, el("code", {}, media)),
      prose(each.description), content.schema ? fields(api, content.schema) : null);
  });
}

function tryForm(api, path, method, operation) {
  const inputs = (operation.parameters || []).map((each) => {
    const choices = (each.schema || {}).enum;
    const input = choices ? el("select", { name: each.name }, ["", ...choices].map((choice) => el("option", {}, choice)))
      : el("input", { name: each.name, required: each.required });
    if (each.name === "Idempotency-Key") input.value = crypto.randomUUID ? crypto.randomUUID() : String(Date.now());
    return { each, input };
  });
  const json = ((operation.requestBody || {}).content || {})["application/json"];
  const body = json ? el("textarea", { rows: 6, "aria-label": "Body" }) : null;
  if (body) body.value = JSON.stringify((resolve(api, json.schema).examples || [{}])[0], null, 2);
  const security = operation.security ? el("input", { type: "password", autocomplete: "off" }) : null;
  const output = el("pre", { "aria-live": "polite", hidden: true });
  const form = el("form", {}, inputs.map(({ each, input }) => el("label", {}, `${each.name} (${each.in})`, input)),
    security ? el("label", {}, "X-Api-Key", security) : null, body ? el("label", {}, "Body", body) : null, el("button", {}, "Send"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { each, input } of inputs) {
      if (each.in === "path") target = target.replace(`{${each.name}}`, encodeURIComponent(input.value));
      else if (input.value && each.in === "query") query.set(each.name, input.value);
      else if (input.value) headers[each.name] = input.value;
    }
    if (security && security.value) headers["X-Api-Key"] = security.value;
    if (body) headers["Content-Type"] = "application/json";
    output.hidden = false;
    output.textContent = "…";
    try {
      const answer = await fetch(target + (query.size ? `?${query}` : ""), { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
      const text = await answer.text();
      const shown = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      let pretty = text;
      try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it is */ }
      output.textContent = `${answer.status} ${answer.statusText}\n${shown}\n\n${pretty}`;
    } catch (error) {
      output.textContent = String(error);
    }
  });
  return el("details", {}, el("summary", {}, "Try it"), form, output);
}

function section(api, path, method, operation) {
  const json = ((operation.requestBody || {}).content || {})["application/json"];
  return el("section", { id: operation.operationId },
    el("h2", {}, operation.summary),
    el("p", {}, el("span", { class: "method" }, method.toUpperCase()), " ", el("code", {}, path)),
    prose(operation.description), el("h3", {}, "Parameters"), parameters(api, operation) || el("p", {}, "None."),
    json ? [el("h3", {}, "Body"), fields(api, json.schema)] : null,
    el("h3", {}, "Answers"), responses(api, operation), tryForm(api, path, method, operation));
}

async function render() {
  const main = document.getElementById("main");
  const contents = document.getElementById("contents");
  try {
    const api = await (await fetch("openapi.json")).json();
    const parts = [el("h1", {}, `${api.info.title} ${api.info.version}`), ...prose(api.info.description)];
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((each) => item[each])) {
        const operation = item[method];
        contents.append(el("li", {}, el("a", { href: `#${operation.operationId}` }, operation.summary)));
        parts.push(section(api, path, method, operation));
      }
    }
    main.replaceChildren(...parts);
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    document.getElementById("status").textContent = `openapi.json could not be shown: ${error}`;
  }
}

render();
