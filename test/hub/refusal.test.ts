import { expect, it } from "vitest";
import { refusalOf } from "#src/hub/refusal.js";
import type { HubRepo } from "#src/hub/hub.js";

const model: HubRepo = { type: "model", id: "org/name" };
const hub = (token?: string) => ({ endpoint: "https://hub.test", fetch, ...(token !== undefined && { token }) });
const response = (status: number, code?: string, message?: string, body = "") =>
  new Response(body, { status, headers: { "x-request-id": "r1", ...(code !== undefined && { "x-error-code": code }), ...(message !== undefined && { "x-error-message": message }) } });

it.each([
  [response(401), undefined, "there is no such model, or it is private; check the name on that page, and for a private one log in with `hf auth login` or set HF_TOKEN"],
  [response(401, "RepoNotFound"), undefined, "there is no such model, or it is private; check the name on that page, and for a private one log in with `hf auth login` or set HF_TOKEN"],
  [response(404, "RepoNotFound"), "hf_x", "there is no such model, or the token may not see it; check the name on that page, and the token's rights at https://hub.test/settings/tokens"],
  [response(401, undefined, "Invalid credentials in Authorization header"), "hf_x", "the Hub does not accept the token; make a new one at https://hub.test/settings/tokens, and log in with `hf auth login` or set HF_TOKEN"],
  [response(401, "GatedRepo"), undefined, "this model is gated; accept its conditions on that page, then log in with `hf auth login` or set HF_TOKEN"],
  [response(403, "GatedRepo"), "hf_x", "this model is gated, and the token's account has no access; accept its conditions on that page (a fine-grained token also needs access to gated repos: https://hub.test/settings/tokens)"],
  [response(403, undefined, "Forbidden: write access"), "hf_x", 'the token may not do this ("Forbidden: write access"); give it the right at https://hub.test/settings/tokens'],
  [response(403, undefined, "Access to this resource is disabled."), "hf_x", "the Hub has disabled access to this model"],
  [response(403, undefined, "You sent Authorization: Bearer hf_x"), "hf_x", 'the token may not do this ("You sent Authorization: Bearer …"); give it the right at https://hub.test/settings/tokens'],
  [response(403), undefined, "the Hub refuses this without a token; log in with `hf auth login` or set HF_TOKEN"],
  [response(404, "RevisionNotFound"), "hf_x", 'has no revision "dev"; https://hub.test/org/name/tree/main lists its branches and tags'],
  [response(404, "EntryNotFound"), "hf_x", 'has no file "dev"; https://hub.test/org/name/tree/main lists its files'],
  [response(451, undefined, undefined, '{"error":"Taken\\u001b down"}'), "hf_x", 'the Hub answered with status 451 (request id r1): "Taken\\u001b down"'],
  [response(400, undefined, undefined, "<html>"), "hf_x", "the Hub answered with status 400 (request id r1)"],
])("says what to do (%#)", async (answer, token, text) => {
  expect((await refusalOf(answer, hub(token), model, "dev")).message).toBe(`https://hub.test/org/name: ${text}`);
});

it("calls a data set one, and has its page", async () => {
  expect((await refusalOf(response(404), hub("hf_x"), { type: "dataset", id: "org/set" })).message).toBe(
    "https://hub.test/datasets/org/set: there is no such data set, or the token may not see it; check the name on that page, and the token's rights at https://hub.test/settings/tokens",
  );
  expect((await refusalOf(response(404, "RevisionNotFound"), hub(), model)).message).toBe("https://hub.test/org/name: has no revision of this name; https://hub.test/org/name/tree/main lists its branches and tags");
});
