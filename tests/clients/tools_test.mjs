// Injected tools, as the official Node SDKs see them: the tests of tools_test.py, under the same names.

import assert from "node:assert/strict";
import { APIS } from "./apis.mjs";
import { run } from "./harness.mjs";

const SUM = ['call bmcp_every_get-sum {"a": 2, "b": 40}', "The sum of 2 and 40 is 42."];
const ECHO = [String.raw`call bmcp_every_echo {"message": "Grüezi, \"Bern\"\n"}`, 'Echo: Grüezi, "Bern"\n'];
const WRONG = ['call bmcp_every_get-sum {"a": "two"}', "MCP error -32602: Input validation error"];
const OWN = 'call get_weather {"city": "Bern"}';

/** The text of a whole answer. Turns before the last are left out where the API has no place for them. */
function answer(api, plan, streamed) {
  const last = `The tools said: ${plan.map(([, said]) => said).join(" | ")}`;
  const isTold = api.name === "Messages" || (api.name === "ChatCompletions" && streamed);
  const asked = plan.map(([call]) => `I ask ${call.split(" ")[1]}. `);
  return isTold ? asked.join("") + last : last;
}

/** What the turns use together, input and output. */
function tokens(turns) {
  const total = (turns * (turns + 1)) / 2;
  return [1000 * total, 10 * total];
}

async function check(api, plan) {
  const client = api.client(api.vendor);
  const prompt = plan.map(([call]) => call).join("\n");
  for (const ask of [api.create, api.final]) {
    const message = await ask.call(api, client, { prompt });
    assert.equal(api.text(message), answer(api, plan, ask === api.final));
    assert.deepEqual(api.usage(message), tokens(plan.length + 1));
    assert.equal(api.stop(message), api.end);
  }
}

const tests = {
  async runs_a_tool_and_answers(api) {
    await check(api, [SUM]);
  },

  async adds_up_several_turns(api) {
    await check(api, [SUM, ECHO, ECHO, SUM]);
  },

  async keeps_letters_and_escapes_whole(api) {
    await check(api, [ECHO]);
  },

  async tells_the_model_what_was_wrong(api) {
    const client = api.client(api.vendor);
    for (const ask of [api.create, api.final]) {
      const message = await ask.call(api, client, { prompt: WRONG[0] });
      assert.ok(api.text(message).includes(WRONG[1]), api.text(message));
      // Only one of the APIs has a word for it.
      assert.equal(api.text(message).includes("(failed)"), api.name === "Messages");
      assert.equal(api.stop(message), api.end);
    }
  },

  async hands_over_the_clients_own_call_after_an_injected_one(api) {
    const client = api.client(api.vendor);
    for (const ask of [api.create, api.final]) {
      const message = await ask.call(api, client, { tools: true, prompt: `${SUM[0]}\n${OWN}` });
      const { name, arguments: given } = api.call(message);
      assert.deepEqual([name, given], ["get_weather", { city: "Bern" }]);
      assert.deepEqual(api.usage(message), tokens(2));
    }
  },

  async runs_a_tool_after_the_clients_own_call(api) {
    const client = api.client(api.vendor);
    for (const ask of [api.create, api.final]) {
      const prompt = `${OWN}\n${SUM[0]}`;
      const first = await ask.call(api, client, { tools: true, prompt });
      const since = api.returned(first, "Rain.");
      const message = await ask.call(api, client, { tools: true, prompt, since });
      assert.ok(api.text(message).endsWith(`The tools said: Rain. | ${SUM[1]}`), api.text(message));
      assert.equal(api.stop(message), api.end);
    }
  },
};

await run("node tools", APIS, tests);
