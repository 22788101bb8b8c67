// The official Node SDKs against the bridge: `tests/clients/run` starts what they talk to.
//
// The tests are those of sdk_test.py, under the same names, as far as the two libraries differ in what they
// send and read: fetch instead of sockets, events instead of iterators.

import assert from "node:assert/strict";
import { APIS } from "./apis.mjs";
import { admin, caught, eventually, run } from "./harness.mjs";

async function keyStates(provider) {
  const { providers } = await admin("GET", "/keys");
  return providers.find(({ name }) => name === provider).keys.map(({ state }) => state);
}

/** Makes all keys of a pool valid again, whatever ran before. */
async function reset(provider) {
  for (const index of (await keyStates(provider)).keys()) await admin("POST", `/keys/${provider}/${index}/reset`);
}

// --- tests --------------------------------------------------------------------------------------------------

const tests = {
  async answers_a_blocking_request(api) {
    assert.ok(api.text(await api.create(api.client(api.vendor))));
  },

  async streams_the_same_answer(api) {
    const client = api.client(api.vendor);
    assert.equal(api.text(await api.final(client)), api.text(await api.create(client)));
  },

  async hands_over_a_tool_call(api) {
    const call = api.call(await api.create(api.client(api.vendor), { tools: true }));
    assert.equal(call.name, "get_weather");
    assert.ok(call.arguments.city);
  },

  async streams_a_tool_call(api) {
    const client = api.client(api.vendor);
    const streamed = api.call(await api.final(client, { tools: true }));
    assert.deepEqual(streamed, api.call(await api.create(client, { tools: true })));
  },

  async relays_events_as_they_come(api) {
    const stream = await api.events(api.client(api.vendor), { model: `slow-${api.model}` });
    const times = [];
    for await (const _ of stream) times.push(performance.now());
    assert.ok(times.length > 3);
    assert.ok(times.at(-1) - times[0] > 100, `all at once: ${times.at(-1) - times[0]} ms`);
  },

  async cancels_upstream_when_the_client_leaves(api) {
    const newest = async () => (await admin("GET", "/interceptions?limit=1")).interceptions[0];
    const stream = await api.events(api.client(api.vendor), { model: `slow-${api.model}` });
    let id;
    for await (const _ of stream) {
      const running = await newest();
      assert.equal(running.ended_at, null);
      id = running.id;
      break; // leaving the loop aborts the request
    }
    await eventually("cancelled", async () => {
      const record = await newest();
      return record.id === id && record.outcome === "cancelled";
    });
  },

  async fails_over_to_the_next_key(api) {
    const provider = `${api.vendor}-failover`;
    for (const ask of [api.create, api.final]) {
      await reset(provider);
      assert.ok(api.text(await ask.call(api, api.client(provider))));
      assert.deepEqual(await keyStates(provider), ["temporary", "permanent", "valid"]);
    }
  },

  async says_when_to_come_back_when_all_keys_are_limited(api) {
    const client = api.client(`${api.vendor}-limited`);
    for (const ask of [api.create, api.final]) {
      const error = await caught(ask.call(api, client));
      assert.ok(error instanceof api.sdk.RateLimitError, String(error));
      const seconds = Number(error.headers.get("retry-after"));
      assert.ok(seconds >= 1 && seconds <= 5, `retry-after: ${seconds}`);
      assert.match(error.message, /all configured keys are rate-limited/);
    }
  },

  async tells_an_operators_fault_from_the_clients(api) {
    const client = api.client(`${api.vendor}-revoked`);
    for (const ask of [api.create, api.final]) {
      const error = await caught(ask.call(api, client));
      assert.ok(error instanceof api.sdk.InternalServerError, String(error));
      assert.equal(error.status, 502);
      assert.match(error.message, /all configured keys failed authentication/);
    }
  },

  async uses_the_key_that_a_client_brings(api) {
    assert.ok(api.text(await api.create(api.client(`${api.vendor}-revoked`, "good"))));
  },

  async relays_the_limit_of_a_clients_own_key(api) {
    const client = api.client(api.vendor, "limited");
    for (const ask of [api.create, api.final]) {
      const error = await caught(ask.call(api, client));
      assert.ok(error instanceof api.sdk.RateLimitError, String(error));
      assert.equal(error.headers.get("retry-after"), "5");
    }
    assert.deepEqual(await keyStates(api.vendor), ["valid"]);
  },

  async relays_the_refusal_of_a_clients_own_key(api) {
    const client = api.client(api.vendor, "revoked");
    for (const ask of [api.create, api.final]) {
      const error = await caught(ask.call(api, client));
      assert.ok(error instanceof api.sdk.AuthenticationError, String(error));
      assert.equal(error.status, 401);
    }
  },

  async serves_many_at_once(api) {
    const client = api.client(api.vendor);
    const all = await Promise.all(Array.from({ length: 20 }, () => api.create(client)));
    assert.equal(new Set(all.map((message) => api.text(message))).size, 1);
  },
};

await run("node", APIS, tests);
