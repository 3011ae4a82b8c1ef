// node vendor_specs.mjs FOLDER: merges the documents in PayPal's folder `openapi` into one, and prints it.
//
// The names of components are prefixed by document. A path for OAuth tokens is added. Three things are repaired, since
// they make Prism a false judge:
// - patterns that JavaScript cannot compile are dropped: Prism would then pass over the whole schema, and say nothing;
// - `Content-Type` is no required header of a GET any more;
// - `Prefer` may be as long as the values that it is described with: Payments gives it 20 characters, and one has 21.
// What was dropped is told on standard error.
import fs from "node:fs";
import path from "node:path";

const NAMES = ["checkout_orders_v2", "payments_payment_v2", "notifications_webhooks_v1", "vault_payment_tokens_v3"];
const TOKEN_PATH = {
  post: {
    security: [],
    requestBody: {
      required: true,
      content: {
        "application/x-www-form-urlencoded": {
          schema: {
            type: "object",
            required: ["grant_type"],
            properties: { grant_type: { type: "string", enum: ["client_credentials"] } },
          },
        },
      },
    },
    responses: {
      200: {
        description: "token",
        content: {
          "application/json": {
            schema: { type: "object" },
            example: { access_token: "A21AA-test", token_type: "Bearer", expires_in: 31668 },
          },
        },
      },
    },
  },
};

const compiles = (pattern) => {
  try {
    new RegExp(pattern, "u");
    return true;
  } catch {
    return false;
  }
};

const renamed = (reference, prefix) => reference.replace(/^#\/components\/(\w+)\//, `#/components/$1/${prefix}_`);

const dropped = [];

function moved(node, prefix) {
  if (Array.isArray(node)) return node.map((each) => moved(each, prefix));
  if (node === null || typeof node !== "object") return node;
  const copy = {};
  for (const [key, value] of Object.entries(node)) {
    if (key === "pattern" && typeof value === "string" && !compiles(value)) dropped.push(value);
    else if (key === "$ref" && typeof value === "string") copy[key] = renamed(value, prefix);
    else if (key === "mapping") copy[key] = Object.fromEntries(Object.entries(value).map(([name, to]) => [name, renamed(String(to), prefix)]));
    else copy[key] = moved(value, prefix);
  }
  return copy;
}

function merged(folder) {
  const whole = {
    openapi: "3.0.3",
    info: { title: "PayPal", version: "1" },
    servers: [{ url: "https://api-m.sandbox.paypal.com" }],
    paths: {},
    components: {},
  };
  NAMES.forEach((name, index) => {
    const source = JSON.parse(fs.readFileSync(path.join(folder, `${name}.json`), "utf8"));
    const prefix = `d${index}`;
    for (const [route, item] of Object.entries(source.paths)) {
      if (item.get?.parameters) item.get.parameters = item.get.parameters.filter((each) => !/content_type$/.test(each.$ref ?? ""));
      whole.paths[route] = { ...whole.paths[route], ...moved(item, prefix) };
    }
    for (const [group, items] of Object.entries(source.components)) {
      whole.components[group] ??= {};
      for (const [key, value] of Object.entries(items)) {
        whole.components[group][group === "securitySchemes" ? key : `${prefix}_${key}`] = moved(value, prefix);
      }
    }
  });
  whole.paths["/v1/oauth2/token"] = TOKEN_PATH;
  for (const each of Object.values(whole.components.parameters)) {
    if (each.name === "Prefer") each.schema.maxLength = Math.max(each.schema.maxLength, "return=representation".length);
  }
  return whole;
}

const document = merged(process.argv[2]);
process.stdout.write(`${JSON.stringify(document)}\n`);
process.stderr.write(`${Object.keys(document.paths).length} paths, ${dropped.length} patterns dropped: ${JSON.stringify(dropped)}\n`);
