import { quote } from "../safetensors/json.js";
import type { Hub } from "./hub.js";

/** What a server says, quoted for a message, cut to a line, and without the token, which error pages and proxies may repeat from the request. */
export function told({ token }: Hub, value: unknown, characters = 300): string {
  const json = JSON.stringify(value);
  const clean: unknown = token === undefined ? value : JSON.parse(json.replaceAll(token, "…"));
  return quote(typeof clean === "string" ? clean.slice(0, characters) : clean);
}
