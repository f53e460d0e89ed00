import { InputError } from "../../errors.js";
import { adapters, describe } from "./adapter.js";
import type { Listed } from "./list-adapters.js";

// A process of its own, that says on its output what GPUs there are: see `listAdapters`.
const listed: Listed = await adapters().then(
  (found) => ({ adapters: found.map(describe) }),
  (error: unknown) => ({ problem: error instanceof InputError ? error.message : String(error) }),
);
process.stdout.write(JSON.stringify(listed), () => process.exit());
