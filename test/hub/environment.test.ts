import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { hubOfEnvironment } from "#src/hub/environment.js";
import { steadyFetch } from "#src/hub/steady-fetch.js";

let home: string;
const servers: Server[] = [];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "shardsmith-hub-"));
});
afterEach(() => {
  rmSync(home, { recursive: true });
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});
const listen = async (server: Server): Promise<string> => {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

it("is the public Hub, without a token, where the environment says nothing", async () => {
  expect(await hubOfEnvironment({ HF_HOME: home })).toEqual({ endpoint: "https://huggingface.co", fetch });
  expect(await hubOfEnvironment({ HF_HOME: home, HF_ENDPOINT: "", HF_TOKEN: "", HTTPS_PROXY: "" })).toEqual({ endpoint: "https://huggingface.co", fetch });
  expect(await hubOfEnvironment({ HF_HOME: home, HF_ENDPOINT: "https://mirror.test/hf//" })).toEqual({ endpoint: "https://mirror.test/hf", fetch });
});

it("finds the token where the ecosystem keeps it, the nearest first", async () => {
  const tokenOf = async (env: object) => (await hubOfEnvironment({ HF_HOME: home, ...env })).token;
  writeFileSync(join(home, "token"), "hf_home\n");
  writeFileSync(join(home, "other"), " hf_path\r\n");
  expect(await tokenOf({})).toBe("hf_home");
  expect(await tokenOf({ HF_TOKEN_PATH: join(home, "other") })).toBe("hf_path");
  expect(await tokenOf({ HF_TOKEN_PATH: join(home, "none") })).toBeUndefined();
  expect(await tokenOf({ HUGGING_FACE_HUB_TOKEN: "hf_old" })).toBe("hf_old");
  expect(await tokenOf({ HUGGING_FACE_HUB_TOKEN: "hf_old", HF_TOKEN: "hf_env\n" })).toBe("hf_env");
  mkdirSync(join(home, "cache/huggingface"), { recursive: true });
  writeFileSync(join(home, "cache/huggingface/token"), "hf_xdg");
  expect(await tokenOf({ HF_HOME: undefined, XDG_CACHE_HOME: join(home, "cache") })).toBe("hf_xdg");
});

it.each([
  [{ HF_ENDPOINT: "huggingface.co" }, "HF_ENDPOINT: is not a web address such as https://huggingface.co"],
  [{ HF_ENDPOINT: "https://me:secret@hub.test" }, "HF_ENDPOINT: is not a web address such as https://huggingface.co"],
  [{ HF_ENDPOINT: "file:///x" }, "HF_ENDPOINT: is not a web address such as https://huggingface.co"],
  [{ HTTPS_PROXY: "secret:proxy:3128" }, "HTTPS_PROXY: is not a proxy's address such as http://proxy:3128"],
  [{ http_proxy: "socks5://proxy" }, "HTTP_PROXY: is not a proxy's address such as http://proxy:3128"],
])("refuses %o", async (env, message) => {
  await expect(hubOfEnvironment({ HF_HOME: home, ...env })).rejects.toEqual(new InputError(message));
});

it("says where a token cannot be read", async () => {
  await expect(hubOfEnvironment({ HF_TOKEN_PATH: home })).rejects.toEqual(new InputError(`${home}: the Hub token there cannot be read (EISDIR)`));
});

it("goes through the proxy, but not to those that NO_PROXY names", async () => {
  const seen: (string | undefined)[] = [];
  const endpoint = await listen(createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.end("from the hub");
  }));
  const through: (string | undefined)[] = [];
  const proxy = createServer((request, response) => {
    through.push(request.url);
    response.end("from the proxy");
  });
  proxy.on("connect", (request, client, head) => {
    through.push(request.url);
    const { port } = new URL(endpoint);
    const server = connect(Number(port), "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      server.write(head);
      server.pipe(client).pipe(server);
    });
    server.on("error", () => client.destroy());
    client.on("error", () => server.destroy());
  });
  const http_proxy = await listen(proxy);
  const ask = async (env: object) => {
    const hub = await hubOfEnvironment({ HF_TOKEN: "hf_x", HF_ENDPOINT: endpoint, ...env });
    return await (await steadyFetch(hub)(`${endpoint}/x`, { method: "PUT", body: new Blob(["x"]) })).text();
  };
  expect(["from the hub", "from the proxy"]).toContain(await ask({ http_proxy }));
  expect(through).toHaveLength(1);
  expect(through[0]).toContain(new URL(endpoint).host);
  expect(await ask({ http_proxy, NO_PROXY: "example.com,127.0.0.1" })).toBe("from the hub");
  expect(await ask({ https_proxy: http_proxy })).toBe("from the hub");
  expect(through).toHaveLength(1);
  expect(seen.every((value) => value === "Bearer hf_x")).toBe(true);
});
