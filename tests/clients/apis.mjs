// The three APIs through the official SDKs, made to look alike: those of apis.py, under the same names.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const BRIDGE = process.env.AIBRIDGE_URL;
const PLACEHOLDER = "aibridge"; // whoever shows it uses the pool's keys
const PROMPT = "What is the weather in Bern?";
const SCHEMA = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const TOOL = { name: "get_weather", description: "Weather now" };

const messages = {
  name: "Messages",
  vendor: "anthropic",
  sdk: Anthropic,
  model: "claude-fixture-1",
  end: "end_turn",
  client: (provider, apiKey = PLACEHOLDER) =>
    new Anthropic({ baseURL: `${BRIDGE}/${provider}`, apiKey, maxRetries: 0 }),
  request({ model, tools, prompt = PROMPT, since = [] } = {}) {
    const messages = [{ role: "user", content: prompt }, ...since];
    const request = { model: model ?? this.model, max_tokens: 256, messages };
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
    const [called, ...more] = message.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(more, []);
    return { id: called.id, name: called.name, arguments: called.input };
  },
  returned(message, result) {
    const content = [{ type: "tool_result", tool_use_id: this.call(message).id, content: result }];
    return [
      { role: "assistant", content: message.content },
      { role: "user", content },
    ];
  },
  stop: (message) => message.stop_reason,
  usage: ({ usage }) => [usage.input_tokens, usage.output_tokens],
};

const chatCompletions = {
  name: "ChatCompletions",
  vendor: "openai",
  sdk: OpenAI,
  model: "gpt-5.1",
  end: "stop",
  client: (provider, apiKey = PLACEHOLDER) =>
    new OpenAI({ baseURL: `${BRIDGE}/${provider}/v1`, apiKey, maxRetries: 0 }),
  request({ model, tools, prompt = PROMPT, since = [] } = {}) {
    const messages = [{ role: "user", content: prompt }, ...since];
    const request = { model: model ?? this.model, messages };
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
    const usage = { stream_options: { include_usage: true } };
    const stream = client.chat.completions.stream({ ...this.request(options), ...usage });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const completion = await stream.finalChatCompletion();
    assert.equal(text, this.text(completion));
    return completion;
  },
  text: (completion) => completion.choices[0].message.content ?? "",
  call(completion) {
    assert.equal(completion.choices[0].finish_reason, "tool_calls");
    const [{ id, function: called }, ...more] = completion.choices[0].message.tool_calls;
    assert.deepEqual(more, []);
    return { id, name: called.name, arguments: JSON.parse(called.arguments) };
  },
  returned(completion, result) {
    const content = { role: "tool", tool_call_id: this.call(completion).id, content: result };
    return [completion.choices[0].message, content];
  },
  stop: (completion) => completion.choices[0].finish_reason,
  usage({ usage }) {
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
    return [usage.prompt_tokens, usage.completion_tokens];
  },
};

const responses = {
  ...chatCompletions,
  name: "Responses",
  end: "completed",
  request({ model, tools, prompt = PROMPT, since = [] } = {}) {
    const input = since.length ? [{ role: "user", content: prompt }, ...since] : prompt;
    const request = { model: model ?? this.model, input };
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
    const [called, ...more] = response.output.filter((item) => item.type === "function_call");
    assert.deepEqual(more, []);
    return { id: called.call_id, name: called.name, arguments: JSON.parse(called.arguments) };
  },
  returned(response, result) {
    const output = { type: "function_call_output", call_id: this.call(response).id, output: result };
    return [...response.output, output];
  },
  stop: (response) => response.status,
  usage({ usage }) {
    assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
    return [usage.input_tokens, usage.output_tokens];
  },
};

export const APIS = [messages, chatCompletions, responses];
