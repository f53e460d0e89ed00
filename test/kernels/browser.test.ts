import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { text } from "node:stream/consumers";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { errorOf, type Check } from "./checks.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const HERE = fileURLToPath(new URL(".", import.meta.url));
const CHROMIUM = "/usr/bin/chromium";
const MUST_RUN = process.env["SHARDSMITH_TEST_GPU"] === "1";
const TYPES: Readonly<Record<string, string>> = { ".js": "text/javascript", ".html": "text/html" };

type Told = { readonly checks: readonly Check[] } | { readonly error: string };

/** Serves the page and what it asks for, and emits as "told" what it sends back. */
function serve(): Server {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url!, "http://localhost").pathname);
    if (path === "/told") {
      void text(request).then((body) => { server.emit("told", JSON.parse(body) as Told); });
      response.end();
      return;
    }
    try {
      response.setHeader("Content-Type", TYPES[extname(path)] ?? "text/plain");
      response.end(contentOf(path));
    } catch {
      response.writeHead(404).end();
    }
  });
  return server;
}

function contentOf(path: string): string | Buffer {
  if (path === "/page.html") return readFileSync(join(HERE, "page.html"));
  if (path === "/checks.js") return ts.transpile(readFileSync(join(HERE, "checks.ts"), "utf8"), { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 });
  return readFileSync(join(ROOT, path));
}

// Elsewhere it is a program of another name, or none at all.
describe.skipIf(!existsSync(CHROMIUM) && !MUST_RUN)("kernels in a browser (Chromium)", () => {
  it("leave what their references say", async () => {
    const server = serve().listen(0, "127.0.0.1");
    await once(server, "listening");
    const told = once(server, "told") as Promise<[Told]>;
    const profile = mkdtempSync(join(tmpdir(), "chromium-"));
    const browser = spawn(CHROMIUM, [
      "--headless=new", "--no-sandbox", "--disable-gpu-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", `--user-data-dir=${profile}`,
      `http://127.0.0.1:${(server.address() as AddressInfo).port}/page.html`,
    ], { stdio: "ignore" });
    const ended = new Promise<never>((_, reject) => {
      browser.once("error", reject);
      browser.once("exit", (code) => { reject(new Error(`Chromium ended with code ${code}`)); });
    });
    try {
      const [result] = await Promise.race([told, ended]);
      if ("error" in result) throw new Error(result.error);
      expect(result.checks).toHaveLength(4 + 1 + 2 * 6 + 6 + 8 + 3);
      for (const check of result.checks) expect(errorOf(check), check.name).toBeLessThan(1e-6);
    } finally {
      browser.kill();
      await ended.catch(() => undefined);
      server.closeAllConnections();
      server.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    }
  });
});
