import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe } from "vitest";
import { listAdapters } from "#src/engine/gpu/list-adapters.js";

// Debian's chromium brings a GPU that the CPU plays. It serves where no other is named.
const SWIFT_SHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (existsSync(SWIFT_SHADER)) process.env["VK_ICD_FILENAMES"] ??= SWIFT_SHADER;
process.env["XDG_RUNTIME_DIR"] ??= tmpdir();

const lacking = await listAdapters().then(() => undefined, (error: unknown) => String(error));
// Set where the tests must run: see .ci/run.
if (lacking !== undefined && process.env["SHARDSMITH_TEST_GPU"] === "1") throw new Error(`SHARDSMITH_TEST_GPU is set, and ${lacking}`);

/** `describe` on a machine with an adapter; on others these tests are skipped, and say why. */
export const describeGpu = (name: string, tests: () => void): void => {
  describe.skipIf(lacking !== undefined)(lacking === undefined ? name : `${name} [skipped: ${lacking.split(". ")[0]}]`, tests);
};
