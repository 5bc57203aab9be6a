// A web shop's client: knows the protos, an address, and nothing else of Rapport.
// node client.mjs DECISIONS CONTROL PROTO_ROOT; prints one JSON object of what it saw.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

// The packages are installed beside this file's copy, never in the repository.
const require = createRequire(pathToFileURL(path.join(process.cwd(), "client.mjs")));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, control, root] = process.argv.slice(2);
const definition = loader.loadSync(
  ["decision", "profile"].map((name) => `protos/rapport/v1/${name}.proto`),
  { includeDirs: [root], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { rapport } = grpc.loadPackageDefinition(definition);
const credentials = grpc.credentials.createInsecure();
const decisions = new rapport.v1.DecisionService(address, credentials);
const profiles = new rapport.v1.ProfileService(control, credentials);

const call = (client, method, request) =>
  new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 10_000);
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

const identifiers = [{ namespace: "cookie", value: "node" }];
const ask = (more = {}) => ({ identifiers, channel: "web", placements: [{ name: "home_hero", slots: 2 }], ...more });

const seen = {};
await call(decisions, "Tell", {
  identifiers,
  attributes: { age: { int_value: "30" }, first_name: { string_value: "João" } },
  events: ["1", "2", "3"].map((key) => ({ type: "visit", key, fields: { page: { string_value: "/" } } })),
});
await call(profiles, "SetConsent", { identifiers, purpose: "marketing", granted: true });

const request = ask({
  facts: { cart: { money_value: { minor: "6000", currency: "EUR" } } },
  events: [{ type: "visit", key: "now" }],
  explain: "EXPLAIN_LEVEL_FULL",
  time_budget: { seconds: 5, nanos: 0 },
  seed: "18446744073709551615",
});
const answer = await call(decisions, "Decide", request);
const [placement] = answer.placements;
seen.status = placement.status;
seen.offers = placement.offers.map((offer) => offer.offer);
seen.title = placement.offers[0].content.title;
seen.price = placement.offers[0].price.amount;
seen.priority = placement.offers[0].priority;
seen.known = answer.known;
seen.seed = answer.seed;

const again = await call(decisions, "Decide", { ...request, as_of: answer.as_of });
seen.repeats = again.decision === answer.decision;

const token = placement.offers[0].token;
const reports = [{ token, outcome: "clicked" }, { token, outcome: "clicked" }, { token: "forged", outcome: "clicked" }];
const recorded = await call(decisions, "Record", { outcomes: reports });
seen.recorded = recorded.results.map((result) => result.status);

const many = await call(decisions, "DecideMany", { requests: [ask(), ask({ channel: "wab" })] });
seen.many = many.results.map((each) => each.result);
seen.failure = many.results[1].failure.reason;

try {
  await call(decisions, "Decide", ask({ channel: "wab" }));
} catch (error) {
  seen.code = grpc.status[error.code];
  seen.details = error.details;
  seen.statusDetails = error.metadata.get("grpc-status-details-bin").length;
}
console.log(JSON.stringify(seen));
decisions.close();
profiles.close();
