// A web shop's client by grpc-js: knows the protos, two addresses, and nothing else of Rapport.
// node client.mjs PROTO_ROOT MODE DECISIONS CONTROL WHO [CA [CERTIFICATE KEY]]; the modes: tests/conformance/test_clients.py.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

// The packages are installed beside this file's copy, never in the repository.
const require = createRequire(pathToFileURL(path.join(process.cwd(), "client.mjs")));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const IN_FLIGHT = 64;
const CALLS = 500;
const SECONDS = 20;

const [root, mode, address, controlAddress, who, ...files] = process.argv.slice(2);
const options = { includeDirs: [root], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const definition = loader.loadSync(["decision", "profile"].map((name) => `protos/rapport/v1/${name}.proto`), options);
const { rapport } = grpc.loadPackageDefinition(definition);

// Standard messages whose protos come with no package here: health, and what travels beside a status.
const standard = protobuf.parse(
  `syntax = "proto3"; package standard;
  message HealthCheckRequest { string service = 1; }
  message HealthCheckResponse { enum S { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; } S status = 1; }
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message LocalizedMessage { string locale = 1; string message = 2; }`,
  { keepCase: true },
).root;
const type = (name) => standard.lookupType(`standard.${name}`);
const decode = (name, bytes) => type(name).toObject(type(name).decode(bytes), { enums: String, defaults: true });
const Health = grpc.makeGenericClientConstructor({
  Check: {
    path: "/grpc.health.v1.Health/Check",
    requestStream: false,
    responseStream: false,
    requestSerialize: (value) => Buffer.from(type("HealthCheckRequest").encode(value).finish()),
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (value) => value,
    responseDeserialize: (bytes) => decode("HealthCheckResponse", bytes),
  },
});

const [authority, certificate, key] = files.map((name) => fs.readFileSync(name));
const credentials = files.length
  ? grpc.credentials.createSsl(authority, key ?? null, certificate ?? null)
  : grpc.credentials.createInsecure();
const decisions = new rapport.v1.DecisionService(address, credentials);
const unserved = new rapport.v1.ProfileService(address, credentials);
const health = new Health(address, credentials);
const profiles = new rapport.v1.ProfileService(controlAddress, grpc.credentials.createInsecure());

const call = (client, method, request, milliseconds = SECONDS * 1000, wait = false) =>
  new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + milliseconds);
    const metadata = new grpc.Metadata({ waitForReady: wait });
    client[method](request, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

// The error that a call ends with, its details decoded.
const failed = async (...asked) => {
  try {
    await call(...asked);
    return { code: "OK" };
  } catch (error) {
    const said = { code: grpc.status[error.code], message: error.details };
    for (const packed of error.metadata?.get("grpc-status-details-bin") ?? []) {
      for (const { type_url: url, value } of decode("Status", packed).details) {
        if (url.endsWith("/google.rpc.ErrorInfo")) Object.assign(said, decode("ErrorInfo", value));
        if (url.endsWith("/google.rpc.LocalizedMessage")) said.hint = decode("LocalizedMessage", value).message;
      }
    }
    return said;
  }
};
const only = ({ code, reason }) => ({ code, reason });

const identifiers = [{ namespace: "cookie", value: who }];
const ask = (more = {}) => ({ identifiers, channel: "web", placements: [{ name: "home_hero", slots: 2 }], ...more });
const moment = {
  ...ask(),
  facts: { cart: { money_value: { minor: "6000", currency: "EUR" } } },
  events: [{ type: "visit", key: "now" }],
  explain: "EXPLAIN_LEVEL_FULL",
  seed: "18446744073709551615",
};
const visits = {
  identifiers,
  attributes: { age: { int_value: "30" }, first_name: { string_value: "João" } },
  events: ["1", "2", "3"].map((name) => ({ type: "visit", key: name, fields: { page: { string_value: "/" } } })),
};
// A request whose answer is far larger than a stream's window.
const wall = ask({ placements: [{ name: "wall", slots: 100 }], explain: "EXPLAIN_LEVEL_FULL" });

const answers = async () => {
  const seen = { health: [] };
  for (const service of ["", "rapport.v1.DecisionService", "nobody"]) {
    const ended = await call(health, "Check", { service }).catch((error) => ({ status: grpc.status[error.code] }));
    seen.health.push(ended.status);
  }
  for (const name of ["tell", "tell_again"]) {
    const { applied, duplicates, created } = await call(decisions, "Tell", visits);
    seen[name] = { applied, duplicates, created };
  }
  await call(profiles, "SetConsent", { identifiers, purpose: "marketing", granted: true });

  const answer = await call(decisions, "Decide", moment);
  const [placement] = answer.placements;
  const [first] = placement.offers;
  seen.decide = {
    status: placement.status,
    known: answer.known,
    program: answer.program,
    seed: answer.seed,
    offers: placement.offers.map((each) => each.offer),
    ranks: placement.offers.map((each) => each.rank),
    tokens: placement.offers.map((each) => each.token.length > 0 && each.token.length <= 1024),
    title: first.content.title,
    price: first.price.amount,
    clamp: first.price.clamp,
    priority: Number(first.priority.toFixed(9)),
    lever_percent: first.factors.lever_percent,
  };
  const again = await call(decisions, "Decide", { ...moment, as_of: answer.as_of });
  seen.repeats = again.decision === answer.decision;
  const many = await call(decisions, "DecideMany", { requests: [ask(), ask({ channel: "wab" })] });
  seen.many = many.results.map((each) => (each.failure ? each.failure.reason : each.response.placements[0].offers[0].offer));
  const report = { token: first.token, outcome: "clicked" };
  const recorded = await call(decisions, "Record", { outcomes: [report, report, { token: "forged", outcome: "clicked" }] });
  seen.record = recorded.results.map((each) => each.status);
  const stranger = ask({ identifiers: [{ namespace: "cookie", value: `${who} unknown` }] });
  const explained = (await call(decisions, "Explain", { request: stranger, offers: ["summer_sale"] })).response.placements[0];
  seen.explain = {
    offers: explained.offers.map((each) => each.offer),
    tokens: explained.offers.map((each) => each.token !== ""),
    rejections: explained.rejections.map((each) => [each.offer, each.reason, each.detail, each.input]),
  };

  seen.error = await failed(decisions, "Decide", ask({ channel: "wab" }));
  seen.not_served = only(await failed(unserved, "GetProfile", { identifiers }));
  seen.too_large = only(await failed(decisions, "Decide", ask({ channel: "w".repeat(2_000_000) })));
  seen.deadline_met = (await failed(decisions, "Decide", ask())).code;
  seen.deadline_exceeded = (await failed(decisions, "Explain", { request: wall }, 0)).code;

  seen.concurrent = {};
  let left = CALLS;
  const caller = async () => {
    while (left-- > 0) {
      const { code } = await failed(decisions, "Decide", ask());
      seen.concurrent[code] = (seen.concurrent[code] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  const large = (await call(decisions, "Decide", wall)).placements[0];
  seen.large = {
    offers: large.offers.length,
    first: large.offers[0].offer,
    last: large.offers.at(-1).offer,
    content_bytes: large.offers.flatMap((each) => Object.values(each.content)).join("").length,
    rejections: large.rejections.length,
  };
  return seen;
};

// Calls on one channel until a line comes or calls fail; then once more, waiting for a server.
const stay = async () => {
  const codes = {};
  let ending = false;
  const line = new Promise((resolve) => readline.createInterface({ input: process.stdin }).once("line", resolve));
  let calling;
  const called = new Promise((resolve) => (calling = resolve));
  const work = async (number) => {
    while (!ending) {
      const { code } = await (number % 2 ? failed(decisions, "Tell", visits) : failed(decisions, "Decide", ask()));
      codes[code] = (codes[code] ?? 0) + 1;
      if (code !== "OK") return;
      if (codes.OK >= IN_FLIGHT) calling();
    }
  };
  const workers = Array.from({ length: 8 }, (_, number) => work(number));
  await called;
  console.log("calling");
  await line;
  ending = true;
  await Promise.all(workers);
  const after = (await failed(decisions, "Decide", ask(), SECONDS * 1000, true)).code;
  return { codes: Object.keys(codes).sort(), after };
};

const once = async () => ({ code: (await failed(decisions, "Decide", ask())).code });

console.log(JSON.stringify(await { answers, stay, once }[mode]()));
process.stdin.destroy();
for (const client of [decisions, unserved, health, profiles]) client.close();
