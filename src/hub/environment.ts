import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { InputError } from "../errors.js";
import { PUBLIC_ENDPOINT, type Hub } from "./hub.js";

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The Hub as the environment has it, in the ecosystem's own variables: HF_ENDPOINT; HF_TOKEN, or else the file at HF_TOKEN_PATH, or else
 * HF_HOME/token, which `hf auth login` writes; HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Throws `InputError` where one of them makes no sense.
 */
export async function hubOfEnvironment(env: Environment = process.env): Promise<Hub> {
  const endpoint = (filled(env.HF_ENDPOINT) ?? PUBLIC_ENDPOINT).replace(/\/+$/, "");
  if (!isWebAddress(endpoint)) throw new InputError("HF_ENDPOINT: is not a web address such as https://huggingface.co");
  const token = clean(filled(env.HF_TOKEN) ?? filled(env.HUGGING_FACE_HUB_TOKEN)) ?? (await tokenFile(filled(env.HF_TOKEN_PATH), env));
  return { endpoint, ...(token !== undefined && { token }), fetch: await fetchOf(env) };
}

/** HF_HOME, or where the Hub's Python library keeps its things without it. */
export function hubHome(env: Environment): string {
  return expand(filled(env.HF_HOME) ?? join(filled(env.XDG_CACHE_HOME) ?? join(homedir(), ".cache"), "huggingface"));
}

/** A path with the home folder in place of a `~` at its beginning. */
export function expand(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}

/** An empty variable is as good as none. */
export function filled(value: string | undefined): string | undefined {
  return value === "" ? undefined : value;
}

function isWebAddress(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, search, hash } = new URL(text);
  return /^https?:$/.test(protocol) && username + password + search + hash === "";
}

function clean(token: string | undefined): string | undefined {
  return filled(token?.replace(/[\r\n]/g, "").trim());
}

async function tokenFile(named: string | undefined, env: Environment): Promise<string | undefined> {
  const path = expand(named ?? join(hubHome(env), "token"));
  try {
    return clean(await readFile(path, "utf8"));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new InputError(`${path}: the Hub token there cannot be read (${code ?? "unknown error"})`);
  }
}

/** Node's own fetch knows no proxies; undici, of which it is made, does, and is loaded only where there is one. */
async function fetchOf(env: Environment): Promise<typeof fetch> {
  const [http, https, none] = ["http_proxy", "https_proxy", "no_proxy"].map((name) => filled(env[name]) ?? filled(env[name.toUpperCase()]));
  if (http === undefined && https === undefined) return fetch;
  for (const [name, proxy] of Object.entries({ HTTP_PROXY: http, HTTPS_PROXY: https })) {
    // Its value may hold a password, and is not told.
    if (proxy !== undefined && !(URL.canParse(proxy) && /^https?:$/.test(new URL(proxy).protocol))) throw new InputError(`${name}: is not a proxy's address such as http://proxy:3128`);
  }
  const undici = await import("undici");
  const dispatcher = new undici.EnvHttpProxyAgent({ httpProxy: http ?? "", httpsProxy: https ?? "", noProxy: none ?? "" });
  // undici's types and the DOM's name the same things differently.
  return ((input: never, init: object) => undici.fetch(input, { ...init, dispatcher })) as unknown as typeof fetch;
}
