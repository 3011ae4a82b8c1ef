// node vendor_signatures.mjs PEERS < TASKS: signs and checks webhooks with the vendors' own packages.
//
// PEERS is the folder that holds `node_modules`. TASKS is a JSON list; what is printed is a JSON list of as many answers.
// {"ask": "stripe.sign", "payload", "secret", "timestamp"}: the header `Stripe-Signature`.
// {"ask": "stripe.check", "payload", "secret", "header", "received_at"}: whether the vendor's check accepts it then.
// {"ask": "adyen.sign", "signed", "key"}: the signature, of an item as an object, of a whole payload as a string.
// {"ask": "adyen.check", "item", "key"}: whether the vendor's check accepts the item with the signature that it holds.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const required = createRequire(path.join(path.resolve(process.argv[2]), "package.json"));
const Stripe = required("stripe");
const { hmacValidator: HmacValidator } = required("@adyen/api-library");
const TOLERANCE_S = 300;

const stripe = new (Stripe.default ?? Stripe)("sk_test_no_call_is_made");
const adyen = new HmacValidator();

const answers = {
  "stripe.sign": ({ payload, secret, timestamp }) => stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp }),
  "stripe.check": ({ payload, secret, header, received_at }) => {
    try {
      return stripe.webhooks.signature.verifyHeader(payload, header, secret, TOLERANCE_S, undefined, received_at * 1000);
    } catch (error) {
      if (error.type === "StripeSignatureVerificationError") return false;
      throw error;
    }
  },
  "adyen.sign": ({ signed, key }) => adyen.calculateHmac(signed, key),
  "adyen.check": ({ item, key }) => adyen.validateHMAC(item, key),
};

const tasks = JSON.parse(fs.readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(tasks.map((task) => answers[task.ask](task))));
