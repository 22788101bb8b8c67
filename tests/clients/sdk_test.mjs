// The official Node SDKs against the bridge: `tests/clients/run` starts what they talk to.
//
// The tests are those of sdk_test.py, under the same names, as far as the two libraries differ in what they
// send and read: fetch instead of sockets, events instead of iterators.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const BRIDGE = process.env.AIBRIDGE_URL;
const ADMIN = process.env.AIBRIDGE_ADMIN;
const PLACEHOLDER = "aibridge"; // whoever shows it uses the pool's keys
const PROMPT = "What is the weather in Bern?";
const SCHEMA = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const TOOL = { name: "get_weather", description: "Weather now" };

const messages = {
  name: "Messages",
  vendor: "anthropic",
  sdk: Anthropic,
  model: "claude-fixture-1",
  client: (provider, apiKey = PLACEHOLDER) =>
    new Anthropic({ baseURL: `${BRIDGE}/${provider}`, apiKey, maxRetries: 0 }),
  request({ model, tools } = {}) {
    const request = { model: model ?? this.model, max_tokens: 256, messages: [{ role: "user", content: PROMPT }] };
    if (tools) request.tools = [{ ...TOOL, input_schema: SCHEMA }];
    return request;
  },
  create(client, options) {
    return client.messages.create(this.request(options));
  },
  events(client, options) {
    return client.messages.create({ ...this.request(options), stream: true });
  },
  async final(client, options) {
    const stream = client.messages.stream(this.request(options));
    let text = "";
    stream.on("text", (delta) => (text += delta));
    const message = await stream.finalMessage();
    assert.equal(text, this.text(message));
    return message;
  },
  text: (message) => message.content.map((block) => (block.type === "text" ? block.text : "")).join(""),
  call(message) {
    assert.equal(message.stop_reason, "tool_use");
    const { name, input } = message.content.find((block) => block.type === "tool_use");
    return { name, arguments: input };
  },
};

const chatCompletions = {
  name: "ChatCompletions",
  vendor: "openai",
  sdk: OpenAI,
  model: "gpt-5.1",
  client: (provider, apiKey = PLACEHOLDER) =>
    new OpenAI({ baseURL: `${BRIDGE}/${provider}/v1`, apiKey, maxRetries: 0 }),
  request({ model, tools } = {}) {
    const request = { model: model ?? this.model, messages: [{ role: "user", content: PROMPT }] };
    if (tools) request.tools = [{ type: "function", function: { ...TOOL, parameters: SCHEMA } }];
    return request;
  },
  create(client, options) {
    return client.chat.completions.create(this.request(options));
  },
  events(client, options) {
    return client.chat.completions.create({ ...this.request(options), stream: true });
  },
  async final(client, options) {
    const stream = client.chat.completions.stream(this.request(options));
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const completion = await stream.finalChatCompletion();
    assert.equal(text, this.text(completion));
    return completion;
  },
  text: (completion) => completion.choices[0].message.content ?? "",
  call(completion) {
    assert.equal(completion.choices[0].finish_reason, "tool_calls");
    const { function: called } = completion.choices[0].message.tool_calls[0];
    return { name: called.name, arguments: JSON.parse(called.arguments) };
  },
};

const responses = {
  ...chatCompletions,
  name: "Responses",
  request({ model, tools } = {}) {
    const request = { model: model ?? this.model, input: PROMPT };
    if (tools) request.tools = [{ type: "function", strict: false, ...TOOL, parameters: SCHEMA }];
    return request;
  },
  create(client, options) {
    return client.responses.create(this.request(options));
  },
  events(client, options) {
    return client.responses.create({ ...this.request(options), stream: true });
  },
  async final(client, options) {
    const stream = client.responses.stream(this.request(options));
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const response = await stream.finalResponse();
    assert.equal(text, this.text(response));
    return response;
  },
  text: (response) => response.output_text,
  call(response) {
    assert.equal(response.status, "completed");
    const called = response.output.find((item) => item.type === "function_call");
    return { name: called.name, arguments: JSON.parse(called.arguments) };
  },
};

// --- helpers ------------------------------------------------------------------------------------------------

async function admin(method, path) {
  const reply = await fetch(`${ADMIN}${path}`, { method, signal: AbortSignal.timeout(10_000) });
  assert.ok(reply.ok, `${method} ${path}: ${reply.status}`);
  return reply.headers.get("content-type")?.includes("json") ? reply.json() : null;
}

async function keyStates(provider) {
  const { providers } = await admin("GET", "/keys");
  return providers.find(({ name }) => name === provider).keys.map(({ state }) => state);
}

/** Makes all keys of a pool valid again, whatever ran before. */
async function reset(provider) {
  for (const index of (await keyStates(provider)).keys()) await admin("POST", `/keys/${provider}/${index}/reset`);
}

async function caught(promise) {
  const result = await promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  assert.ok(result.error, `no error, but ${JSON.stringify(result.value)}`);
  return result.error;
}

async function eventually(what, holds) {
  const end = Date.now() + 10_000;
  while (Date.now() < end) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`never happened: ${what}`);
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

let [passed, failed] = [0, 0];
for (const api of [messages, chatCompletions, responses]) {
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test(api);
      passed += 1;
      console.log(`ok node ${api.name} ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED node ${api.name} ${name}\n${error?.stack ?? error}`);
    }
  }
}
console.log(`node: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
