// What the tests have in common: the bridge's admin listener, patience, and a count at the end.

import assert from "node:assert/strict";

const ADMIN = process.env.AIBRIDGE_ADMIN;

export async function admin(method, path) {
  const reply = await fetch(`${ADMIN}${path}`, { method, signal: AbortSignal.timeout(10_000) });
  assert.ok(reply.ok, `${method} ${path}: ${reply.status}`);
  return reply.headers.get("content-type")?.includes("json") ? reply.json() : null;
}

export async function caught(promise) {
  const result = await promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  assert.ok(result.error, `no error, but ${JSON.stringify(result.value)}`);
  return result.error;
}

export async function eventually(what, holds) {
  const end = Date.now() + 10_000;
  while (Date.now() < end) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`never happened: ${what}`);
}

/** Runs every test for each of the APIs, and ends the process; `suite` begins the line with the count. */
export async function run(suite, apis, tests) {
  let [passed, failed] = [0, 0];
  for (const api of apis) {
    for (const [name, test] of Object.entries(tests)) {
      try {
        await test(api);
        passed += 1;
        console.log(`ok ${suite} ${api.name} ${name}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED ${suite} ${api.name} ${name}\n${error?.stack ?? error}`);
      }
    }
  }
  console.log(`${suite}: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
