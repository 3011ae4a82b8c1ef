// Shows asyncapi.json: topics, who sends and receives, messages and their Avro fields. Every text is set as text, never as
// markup, so that nothing in the document can become a script.
"use strict";

document.addEventListener("securitypolicyviolation", (event) => {
  document.body.dataset.refused = `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile || ""}`;
});

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat(Infinity));
  return node;
}

// The descriptions use backquotes for code; nothing else of Markdown.
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

function typeName(type) {
  if (Array.isArray(type)) return type.map(typeName).join(" or ");
  if (typeof type === "string") return type;
  if (type.type === "array") return `list of ${typeName(type.items)}`;
  if (type.type === "enum") return `${type.name}: ${type.symbols.join(", ")}`;
  return type.logicalType || type.name || typeName(type.type);
}

// Records inside of a record follow it, each once.
function inner(type, found) {
  if (Array.isArray(type)) type.forEach((each) => inner(each, found));
  else if (type && typeof type === "object") {
    if (type.type === "record") { found.push(type); type.fields.forEach((field) => inner(field.type, found)); }
    else if (type.type === "array") inner(type.items, found);
    else if (typeof type.type === "object") inner(type.type, found);
  }
  return found;
}

function fields(record) {
  return el("table", {}, el("caption", {}, record.name), el("tbody", {}, record.fields.map((field) =>
    el("tr", {}, el("td", {}, el("code", {}, field.name)), el("td", {}, typeName(field.type)), el("td", {}, prose(field.doc || ""))))));
}

function message(name, described) {
  const types = described.headers ? described.headers.properties.ce_type.enum : [];
  return el("details", { class: "message" }, el("summary", {}, el("strong", {}, name), " ", prose(described.summary)),
    types.length ? el("p", {}, "ce_type: ", types.map((type) => [el("code", {}, type), " "])) : [],
    inner(described.payload.schema, []).map(fields));
}

function place(api, reference) {
  return reference.replace(/^#\//, "").split("/").reduce((at, key) => at[key], api);
}

function channel(api, name, described) {
  const who = (action) => Object.entries(api.operations)
    .filter(([, each]) => each.action === action && each.channel.$ref === `#/channels/${name}`)
    .map(([key]) => key.split(".")[0]).join(", ");
  return el("section", { id: name, "data-topic": name }, el("h2", {}, name), el("p", {}, described.tags.map((tag) => tag.name)),
    el("p", {}, prose(described.description)),
    el("p", {}, `Sent by: ${who("send") || "others than the engine's components"}. Received by: ${who("receive") || "whoever wants to know"}.`),
    Object.entries(described.messages).map(([key, each]) => message(key, place(api, each.$ref))));
}

async function show() {
  const main = document.getElementById("topics");
  try {
    const api = await (await fetch("../asyncapi.json")).json();
    const headers = api.components.messageTraits.cloudEvent.headers;
    main.replaceChildren(el("h1", {}, `${api.info.title} ${api.info.version}`), el("p", {}, prose(api.info.description)),
      el("details", {}, el("summary", {}, "Headers of every message"), el("table", {}, el("tbody", {},
        Object.entries(headers.properties).map(([name, each]) => el("tr", {}, el("td", {}, el("code", {}, name)),
          el("td", {}, headers.required.includes(name) ? "always" : ""), el("td", {}, prose(each.description || (each.enum || []).join(", ")))))))),
      ...Object.entries(api.channels).map(([name, each]) => channel(api, name, each)));
    document.body.dataset.shown = "yes";
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    main.textContent = `asyncapi.json could not be shown: ${error}`;
  }
}

show();
